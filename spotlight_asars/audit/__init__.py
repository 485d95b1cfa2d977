"""Audits of a recommender: for leaks, and for the contract that every recommender keeps."""

from spotlight_asars.audit.contract import ContractError, check_recommender
from spotlight_asars.audit.leaks import CHECKS, audit
from spotlight_asars.audit.report import AuditReport, Finding, LeakError

__all__ = ["CHECKS", "AuditReport", "ContractError", "Finding", "LeakError", "audit", "check_recommender"]
