"""``midwife rule pin|unpin``: what a host keeps, as lines of pins.yaml that people may have commented."""

from pathlib import Path

import pytest

from midwife.core.decide import decide
from midwife.core.facts import Facts
from midwife.core.lifecycle import State
from midwife.site.load import SiteError, load

from .sites import MACS, STRANGER, add_host, midwife, open_store, write_site


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = write_site(tmp_path)
    (root / "host-configurations/base.yaml").write_text("steps: [{run: 'true'}]\n")
    (root / "hosts/open-04.yaml").write_text("macs: 52:54:00:00:00:04\n")
    return root


def pins(site: Path) -> str:
    return (site / "pins.yaml").read_text()


def test_a_pin_is_written_counts_and_goes_again(site: Path) -> None:
    done = midwife("rule", "pin", "open-04", "--image", "rescue", "--configuration", "base", "--site", site)
    assert (done.exit_code, done.stdout) == (
        0,
        "open-04 keeps image rescue, configuration base: pins.yaml says so\n",
    )
    assert pins(site) == "open-04:\n  image: rescue\n  configuration: base\n"
    answer = decide(Facts(macs=("52:54:00:00:00:04",)), load(site).site)
    assert (answer.image, answer.configuration) == ("rescue", "base")
    assert "pinned as open-04 in pins.yaml" in midwife("explain", "open-04", "--site", site).stdout
    gone = midwife("rule", "unpin", "52-54-00-00-00-04", "--site", site)
    assert gone.exit_code == 1, "pinned by its name, not by its address"
    gone = midwife("rule", "unpin", "open-04", "--site", site)
    assert (gone.exit_code, pins(site).strip()) == (0, "")
    assert load(site).site.pins == {}


def test_comments_stay_and_a_pin_is_replaced(site: Path) -> None:
    (site / "pins.yaml").write_text(
        f"# kept until the audit\n{STRANGER}:   # the old one\n  image: rescue\n\n"
        "# next\nopen-04:\n  boot: local\n"
    )
    done = midwife("rule", "pin", STRANGER.upper(), "--configuration", "base", "--site", site)
    assert done.exit_code == 0, done.output
    assert pins(site) == (
        f"# kept until the audit\n{STRANGER}:   # the old one\n  configuration: base\n\n"
        "# next\nopen-04:\n  boot: local\n"
    )


def test_without_options_it_is_what_the_host_got_last(site: Path) -> None:
    store = open_store(site)
    add_host(store, "esx-01", State.READY, 10)
    attempt = store.attempt("a-esx-01")
    assert attempt
    attempt.answer.update(
        {"image": "rescue", "mode": "stateless", "configuration": "base", "location": "Lab"}
    )
    store.save_attempt(attempt)
    store.close()
    done = midwife("rule", "pin", MACS["esx-01"], "--site", site)
    assert done.exit_code == 0, done.output
    assert (
        pins(site) == "esx-01:\n  image: rescue\n  configuration: base\n  boot: stateless\n  location: Lab\n"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("esx-99", "--image", "rescue"), "esx-99 is no host of the site (disk-03, esx-01, open-04)"),
        (("open-04",), "open-04 has not booted from here yet; say what it is to keep"),
        (("open-04", "--image", "rescu"), "there is no image rescu; did you mean rescue?"),
        (("open-04", "--configuration", "x"), "there is no configuration x; there is base"),
        (("open-04", "--script-bundle", "no.tgz"), "bundles/no.tgz: No such file"),
        (("open-04", "--location", "a//b"), "'a//b' is not a location"),
    ],
)
def test_what_cannot_be_pinned(site: Path, words: tuple[str, ...], says: str) -> None:
    result = midwife("rule", "pin", *words, "--site", site)
    assert result.exit_code == 1
    assert says in result.stderr
    assert not (site / "pins.yaml").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "esx-1: {image: rescue}\n",
            "pins.yaml:1:1: 'esx-1' is neither a host of the site nor a MAC address",
        ),
        ("esx-01: {image: nope}\n", "pins.yaml:1:17: esx-01.image: there is no image 'nope'"),
        ("esx-01: {colour: red}\n", "pins.yaml:1:10: unknown key 'colour'"),
        (
            f"esx-01: {{image: rescue}}\n{MACS['esx-01']}: {{image: rescue}}\n",
            f"pins.yaml:2:1: {MACS['esx-01']} is the machine that is pinned as esx-01 already",
        ),
        ("- esx-01\n", "pins.yaml:1:1: host names and MAC addresses are expected"),
        ("esx-01: rescue\n", "pins.yaml:1:9: "),
    ],
)
def test_check_tells_where_a_pin_is_wrong(site: Path, text: str, problem: str) -> None:
    (site / "pins.yaml").write_text(text)
    with pytest.raises(SiteError) as error:
        load(site)
    assert problem in "\n".join(map(str, error.value.problems))


def test_an_empty_pin_is_a_warning(site: Path) -> None:
    (site / "pins.yaml").write_text("esx-01: {}\n")
    assert "the pin of esx-01 keeps nothing" in str(load(site).warnings[0])
