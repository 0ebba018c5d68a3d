"""What hypothesis puts into XML: texts that it can hold, dates, versions; without blanks around them."""

from datetime import UTC, datetime

from hypothesis import strategies as st

__all__ = ["DATES", "NAMES", "TEXTS", "WORDS"]

_CHARACTERS = st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
TEXTS = st.text(_CHARACTERS, max_size=40).map(str.strip)
NAMES = st.text(_CHARACTERS, min_size=1, max_size=30).map(str.strip).filter(bool)
WORDS = st.text("abcXYZ019._-+", min_size=1, max_size=12)
DATES = st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))
