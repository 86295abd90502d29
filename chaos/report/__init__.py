"""A report is one folder: the raw history, every part's logs, the verdict for programs and one page for people."""

from chaos.report.folder import PAGE, VERDICT, Report, ReportMissing, Verdict, verdict_of, write_report

__all__ = ["PAGE", "VERDICT", "Report", "ReportMissing", "Verdict", "verdict_of", "write_report"]
