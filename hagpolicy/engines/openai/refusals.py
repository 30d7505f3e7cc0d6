"""What a server refuses although it would do the same without: neutral values, a seed, a name of the limit.

Models refuse a temperature even where it is their only one, top_p at 1, or temperature and top_p together. Which they
are is learned from their own refusals, and each was right only if the request goes through without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hagpolicy.config.config import DecodingConfig
from hagpolicy.config.fields import NEUTRAL, SPECS
from hagpolicy.config.servers import SERVERS, RequestBody
from hagpolicy.engines.openai.retry import RequestFailed

__all__ = ["Refusals", "find_names", "is_refusal"]

_OTHER_LIMIT = "max_completion_tokens"


def is_refusal(reason: str | None) -> bool:
    """Whether the reason of a failed cell is that the server takes no such request (HTTP 400 or 422)."""
    return (reason or "").startswith(("HTTP 400", "HTTP 422"))


def find_names(words: str, names: Iterable[str]) -> set[str]:
    """Which names of settings a text holds, in whichever case and with whatever between their parts: topP, top-p."""
    patterns = {name: r"[\W_]{0,3}".join(map(re.escape, name.split("_"))) for name in {*names, _OTHER_LIMIT}}
    return {
        name
        for name, pattern in patterns.items()
        if re.search(rf"(?<![A-Za-z0-9_]){pattern}(?![A-Za-z0-9_])", words, re.IGNORECASE)
    }


class Refusals:
    """Learns what one server refuses.

    Attributes:
        names: as `servers.make_request_body` takes them.

    Args:
        server: its name in `SERVERS`.
    """

    def __init__(self, server: str) -> None:
        self.names: set[str] = set()
        self._entry = SERVERS[server]

    def learn(self, failure: RequestFailed, sent: RequestBody, config: DecodingConfig) -> set[str]:
        """Names that a refusal holds of what was sent and can be left out of the next try.

        A refusal may name them for another reason, or repeat the request: only `confirm` leaves them out of all.

        Args:
            failure: of a request.
            sent: what it refused.
            config: which that was made of.
        """
        keys = {**sent.body, **sent.extra_body}
        if not is_refusal(failure.reason):
            return set()
        named = set(failure.named)
        found = {"seed"} & named & keys.keys()
        if self._entry.neutral_unsent:
            settings = self._entry.dialect.settings.items()
            values = config.fields()
            neutral = {name for name, value in values.items() if value == NEUTRAL[name] and not SPECS[name].unsaid}
            found |= {name for name, setting in settings if setting.key in named and name in neutral}
            found.discard("max_tokens")
            if _OTHER_LIMIT in named and _OTHER_LIMIT not in keys:
                found.add("max_tokens")
        return found

    def confirm(self, names: Iterable[str]) -> None:
        """A request went through without these: they are left out from now on."""
        self.names |= set(names)
