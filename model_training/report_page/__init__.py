"""The report for people: pictures and one page of HTML, both made of report.json."""

from model_training.report_page.page import report_page
from model_training.report_page.pictures import report_pictures

__all__ = ["report_page", "report_pictures"]
