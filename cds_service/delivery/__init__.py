"""The way of a RiskAssessment to the EHR's FHIR server."""

from cds_service.delivery.dispatch import run
from cds_service.delivery.in_call import InlineResult, inline
from cds_service.delivery.plan import Way, WriteBackPlan, write_back_plan

__all__ = ["InlineResult", "Way", "WriteBackPlan", "inline", "run", "write_back_plan"]
