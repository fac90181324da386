"""Durable memory: one call is one transaction, on SQLite and on PostgreSQL alike."""

from cds_service.store.records import (
    AnsweredCard,
    AssessmentRecord,
    AuditEntry,
    ClaimedMessage,
    Destination,
    FeedbackItem,
    InlineWriteBack,
    IssuedCard,
    MessageDetail,
    MessageState,
    MessageStatus,
    OutboxFigures,
    OutboxMessage,
)
from cds_service.store.store import Store

__all__ = [
    "AnsweredCard",
    "AssessmentRecord",
    "AuditEntry",
    "ClaimedMessage",
    "Destination",
    "FeedbackItem",
    "InlineWriteBack",
    "IssuedCard",
    "MessageDetail",
    "MessageState",
    "MessageStatus",
    "OutboxFigures",
    "OutboxMessage",
    "Store",
]
