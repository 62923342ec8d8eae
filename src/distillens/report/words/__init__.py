"""Every word of the passport, one catalogue a language, and numbers as that language writes them.

A text may hold `{placeholders}`, `**strong**` and `[[term|text]]`: a term of the glossary, explained where it first
appears. Placeholders are filled after the text was parsed and are escaped, so that a hostile name stays a name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from distillens.errors import InputError, did_you_mean
from distillens.report.svg import clean

HERE = Path(__file__).parent
LANGUAGES = ("en", "zh")
_MARKS = re.compile(r"\*\*(.+?)\*\*|\[\[([a-z0-9_]+)\|(.+?)\]\]")
MINUS, DASH, THIN = "−", "–", "\u202f"


@lru_cache(maxsize=4)
def catalogue(language: str) -> Mapping[str, str]:
    """key → text of one language. InputError with a suggestion when there is none."""
    if language not in LANGUAGES:
        raise InputError(f"There is no passport in the language {language!r}.{did_you_mean(language, LANGUAGES)}")
    texts: dict[str, str] = json.loads((HERE / f"{language}.json").read_text(encoding="utf-8"))
    return texts


@dataclass
class Words:
    """One language's words and numbers. `used` remembers which terms were explained already, in order.

    images: the rows are pictures; texts that speak otherwise of them then (`images:KEY` in the catalogue) replace `KEY`.
    """

    language: str
    used: dict[str, int] = field(default_factory=dict)
    images: bool = False

    @property
    def texts(self) -> Mapping[str, str]:
        return catalogue(self.language)

    def __call__(self, key: str, values: Mapping[str, Any] | None = None) -> str:
        """Plain text without marks. RuntimeError when there is no such text or value: that is a mistake of ours, not of the run."""
        template = _MARKS.sub(lambda m: m[1] or m[3], self._text(key))
        try:
            return template.format_map({k: clean(v) for k, v in (values or {}).items()})
        except KeyError as error:
            raise RuntimeError(f"The text {key!r} needs a value for {error}.") from error

    def html(self, key: str, values: Mapping[str, Any] | None = None) -> Markup:
        """The text with strong parts and explained terms; values are escaped unless they are Markup (see `name`)."""
        try:
            return self._marked(self._text(key)).format(**(values or {}))
        except KeyError as error:
            raise RuntimeError(f"The text {key!r} needs a value for {error}.") from error

    def _text(self, key: str) -> str:
        if key not in self.texts:
            raise RuntimeError(f"The catalogue {self.language!r} has no text {key!r}.")
        return self.texts.get(f"images:{key}", self.texts[key]) if self.images else self.texts[key]

    def has(self, key: str) -> bool:
        return key in self.texts

    def term(self, key: str, text: str = "") -> Markup:
        """A word of the glossary: explained (hover, focus, a footnote in print) at its first use, plain afterwards."""
        shown = text or self._text(f"term.{key}")
        if key in self.used:
            return escape(shown)
        self.used[key] = len(self.used) + 1
        return Markup(
            '<span class="term" tabindex="0" aria-describedby="tip-{0}">{1}<sup class="note">{2}</sup>'
            '<span class="tip" role="tooltip" id="tip-{0}">{3}</span></span>'
        ).format(key, shown, self.used[key], self(f"define.{key}"))

    def _marked(self, template: str) -> Markup:
        parts, at = [], 0
        for match in _MARKS.finditer(template):
            parts.append(escape(template[at : match.start()]))
            parts.append(
                Markup("<strong>{}</strong>").format(Markup(escape(match[1])))
                if match[1]
                else self.term(match[2], match[3])
            )
            at = match.end()
        return Markup("").join([*parts, escape(template[at:])])

    # ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def number(self, value: Any, digits: int = 3) -> str:
        """Three significant digits, thousands separated; whole numbers in full."""
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return "—"
        if isinstance(value, str):  # an infinite bound is written "inf" in JSON
            value = float(value)
        if math.isinf(value):
            return "∞" if value > 0 else f"{MINUS}∞"
        if isinstance(value, int) or (abs(value) >= 1000):
            text = f"{value:,.0f}"
        elif value == 0:
            text = "0"
        elif abs(value) < 1e-4:
            mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
            text = f"{mantissa}×10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        else:
            decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
            text = f"{value:.{decimals}f}"
        return text.replace("-", MINUS)

    def exact(self, value: Any) -> str:
        """A number that somebody set (a limit, a threshold, a tick): as it was written, without padding."""
        if value is None or isinstance(value, str) or not math.isfinite(value):
            return self.number(value)
        text = f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
        return (self.number(float(value)) if "e" in text else text).replace("-", MINUS)

    def percent(self, share: Any, *, sign: bool = True, exact: bool = False) -> str:
        """A share as percent with one decimal; more when it would otherwise read 0 or 100 without being it.

        exact: a share that somebody set, without padding.
        """
        if exact:
            return self.exact(round(100 * float(share), 6)) + (self.percent_sign if sign else "")
        if share is None or (isinstance(share, float) and math.isnan(share)):
            return "—"
        value = 100 * float(share)
        if math.isinf(value):
            return self.number(value)
        decimals = 0 if value in (0.0, 100.0) else 1
        while decimals and decimals < 3 and f"{value:.{decimals}f}" in (f"{0:.{decimals}f}", f"{100:.{decimals}f}"):
            decimals += 1
        return f"{value:.{decimals}f}".replace("-", MINUS) + (self.percent_sign if sign else "")

    @property
    def percent_sign(self) -> str:
        return f"{THIN}%" if self.language == "en" else "%"

    def value(self, value: Any, unit: str = "value") -> str:
        """A number in its unit: shares in percent, everything else with three digits."""
        return self.percent(value) if unit == "share" else self.number(value)

    def tick(self, value: float, unit: str = "value") -> str:
        """A round number on an axis."""
        return self.percent(value, exact=True) if unit == "share" else self.exact(value)

    def span(self, low: Any, high: Any, unit: str = "value") -> str:
        """An interval."""
        if low in ("-inf", -math.inf) or low is None:
            return f"≤{THIN}{self.value(high, unit)}"
        if high in ("inf", math.inf) or high is None:
            return f"≥{THIN}{self.value(low, unit)}"
        first = self.percent(low, sign=self.language == "zh") if unit == "share" else self.value(low, unit)
        joint = f" {self('number.to')} " if MINUS in first + self.value(high, unit) else DASH
        return f"{first}{joint}{self.value(high, unit)}"

    def estimate(self, estimate: Mapping[str, Any] | None, unit: str = "value", *, rows: bool = True) -> str:
        """Value (interval, n), or the word for why there is none."""
        if estimate is None:
            return self("status.not_available")
        if estimate.get("status", "ok") != "ok" or estimate.get("value") is None:
            return self(f"status.{estimate.get('status', 'not_available')}")
        inside = [self.span(estimate.get("low"), estimate.get("high"), unit)] if has_interval(estimate) else []
        if rows and estimate.get("n"):
            inside.append(f"n{THIN}={THIN}{self.number(int(estimate['n']))}")
        return self.value(estimate["value"], unit) + (f" ({self('number.comma').join(inside)})" if inside else "")

    def list(self, items: list[str]) -> str:
        return self("number.separator").join(items)

    def date(self, text: str) -> str:
        """The day of an ISO time."""
        match = re.match(r"(\d{4})-(\d{2})-(\d{2})", text or "")
        if not match:
            return ""
        return f"{match[1]} 年 {int(match[2])} 月 {int(match[3])} 日" if self.language == "zh" else match[0]

    def bytes(self, count: Any) -> str:
        if count is None:
            return "—"
        size, unit = float(count), "B"
        for unit in ("B", "kB", "MB", "GB"):
            if size < 1000 or unit == "GB":
                break
            size /= 1000
        return f"{self.number(round(size) if unit == 'B' else size)}{THIN}{unit}"

    def metric(self, metric_name: str, k: Any = None) -> str:
        """A metric in words; one that the catalogue does not know keeps its own name."""
        base, _, cut = metric_name.partition("@")
        key = f"metric.{base}"
        return self(key, {"k": cut or k or "k"}) if self.has(key) else clean(metric_name.replace("_", " "))

    def about(self, metric_name: str, k: Any = None) -> str:
        """What a metric says, in one sentence; empty when the catalogue does not know it."""
        base, _, cut = metric_name.partition("@")
        return self(f"about.{base}", {"k": cut or k or "k"}) if self.has(f"about.{base}") else ""


def has_interval(estimate: Mapping[str, Any]) -> bool:
    """Whether an estimate (as JSON) comes with a finite bound and is not certain."""
    ends = [estimate.get(end) for end in ("low", "high")]
    return any(isinstance(end, (int, float)) for end in ends) and ends != [estimate.get("value")] * 2


def name(text: object) -> Markup:
    """A name that somebody else chose: escaped, isolated from the writing direction around it, breakable after underscores."""
    return Markup("<bdi>{}</bdi>").format(Markup(str(escape(clean(text))).replace("_", "_<wbr>")))
