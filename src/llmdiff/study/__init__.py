"""A blind user study: pairs of pictures, people who say which they prefer, and what that proves."""

from typing import TYPE_CHECKING

from llmdiff import lazy

if TYPE_CHECKING:
    from llmdiff.study.config import StudyConfig
    from llmdiff.study.export import collect_answers, export_page
    from llmdiff.study.new import new_study
    from llmdiff.study.plan import Study
    from llmdiff.study.report import Report, sentence, study_report, write_report
    from llmdiff.study.server import study_app

__all__ = [
    "Report",
    "Study",
    "StudyConfig",
    "collect_answers",
    "export_page",
    "new_study",
    "sentence",
    "study_app",
    "study_report",
    "write_report",
]

__getattr__ = lazy.names(
    __name__,
    {
        "config": ("StudyConfig",),
        "export": ("collect_answers", "export_page"),
        "new": ("new_study",),
        "plan": ("Study",),
        "report": ("Report", "sentence", "study_report", "write_report"),
        "server": ("study_app",),
    },
)
