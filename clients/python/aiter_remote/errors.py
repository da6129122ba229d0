"""What goes wrong, as exceptions. All of them are RuntimeErrors, the kind AITER raises, so that code written for AITER
catches them; the message is the server's own detail.
"""
from __future__ import annotations

from typing import Any, Dict, Optional

__all__ = ["AiterdError", "NotOffered", "ServerUnreachable", "from_problem"]


class AiterdError(RuntimeError):
    """The service refused a request or failed at it. `problem` is the whole RFC 9457 object it answered with."""

    def __init__(self, message: str, problem: Optional[Dict[str, Any]] = None, status: Optional[int] = None) -> None:
        super().__init__(message)
        self.problem: Dict[str, Any] = dict(problem or {})
        #: The HTTP status; None where the request was refused before it was sent.
        self.status: Optional[int] = self.problem.get("status", status)

    @property
    def slug(self) -> Optional[str]:
        """The problem's stable name, such as "invalid-shape"."""
        kind = self.problem.get("type")
        return str(kind).rsplit("/", 1)[-1] if kind else None

    def __getattr__(self, name: str) -> Any:
        # op, input, param, found, wanted, request_id: what the problem says about the place
        if name in ("op", "input", "param", "found", "wanted", "request_id"):
            return self.problem.get(name)
        raise AttributeError(name)

    def __reduce__(self) -> Any:
        return type(self), (str(self), self.problem, self.status)


class NotOffered(AiterdError, NotImplementedError):
    """AITER has this parameter, the service does not offer it (NotImplementedError is a RuntimeError, too)."""


class ServerUnreachable(AiterdError, ConnectionError):
    """There is no server at the address, or the connection broke before its answer was there."""


def from_problem(problem: Dict[str, Any], status: int) -> AiterdError:
    """The exception for a problem object (the JSON of an error reply, or of a failed case)."""
    error = AiterdError(str(problem.get("detail") or problem.get("title") or "HTTP status %d" % status), problem, status)
    if error.slug == "unsupported-parameter":
        return NotOffered(str(error), problem, status)
    return error
