"""Packaging of spotlight_asars. Spotlight itself is never required: PyPI's ``spotlight`` is another project."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "spotlight_asars" / "__init__.py").read_text(), re.MULTILINE)

PLOTS = ["matplotlib>=3.9"]
TUNE = ["optuna>=4.0"]
PARQUET = ["pyarrow>=16"]
DOCS = ["sphinx>=7.4"]
TESTS = ["hypothesis>=6.90", "pytest>=8", "pytest-xdist>=3.6.1", "ruff>=0.6", "scikit-learn>=1.5"]

setup(
    name="spotlight-asars",
    version=VERSION.group(1),
    description="Session-aware recommendation with dwell times: ASARS for Spotlight, and without it",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    packages=find_packages(include=["spotlight_asars", "spotlight_asars.*"]),
    python_requires=">=3.11",
    install_requires=["h5py>=3.15", "numpy>=2.0.2", "pandas>=2.2", "scipy>=1.13", "torch>=2.4", "tqdm>=4.60"],
    extras_require={
        "plots": PLOTS,
        "tune": TUNE,
        "parquet": PARQUET,
        "docs": DOCS,
        "dev": [*PLOTS, *TUNE, *PARQUET, *DOCS, *TESTS],
    },
    entry_points={"console_scripts": ["spotlight-asars=spotlight_asars.cli:main"]},
    classifiers=[
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
