"""Texts for boot loaders: the site's own templates, and what happens when these are wrong."""

from pathlib import Path

import pytest

from midwife.core.facts import Facts
from midwife.core.token import mint
from midwife.serve.render import SAMPLE_ATTEMPT, SAMPLE_TOKEN, Renderer, RenderError, Urls

from .deciding import MACS, World, make_site


@pytest.fixture
def site_root(tmp_path: Path) -> Path:
    (tmp_path / "templates").mkdir()
    return tmp_path


def render(root: Path, template: str, text: str | bytes) -> bytes:
    """The script of esx-01 with one template replaced by the site's own."""
    content = text.encode() if isinstance(text, str) else text
    (root / "templates" / template).write_bytes(content)
    world = World(make_site(root))
    try:
        answer, facts = world.answer()
        return Renderer(world.site).ipxe(answer, facts, world.image(), SAMPLE_ATTEMPT, SAMPLE_TOKEN)
    finally:
        world.close()


def test_a_template_of_the_site_takes_the_place_of_ours(site_root: Path) -> None:
    text = render(
        site_root, "linux.ipxe.j2", "#!ipxe\n# {{ name }} {{ host.serial }}\nkernel {{ kernel_line }}\n"
    )
    line = f"PBHOST=192.0.2.2:3500 PBTOKEN={SAMPLE_TOKEN} quiet BOOTIF=01-52-54-00-00-00-01"
    assert text.decode() == f"#!ipxe\n# esx-01 SN-1\nkernel {line}\n"
    assert [path.name for path in Renderer(make_site(site_root)).overridden()] == ["linux.ipxe.j2"]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("#!ipxe\n{% if %}\n", 2, "Expected an expression"),
        ("#!ipxe\n\nkernel {{ no_such }}\n", 3, "'no_such' is undefined"),
        ("#!ipxe\n{{ image.no_such }}\n", 2, "has no attribute 'no_such'"),
        ("{{ 1 / 0 }}\n", 1, "ZeroDivisionError: division by zero"),
        ("#!ipxe\n{{ name + 1 }}\n", 2, "TypeError"),
        ("{{ ''.__class__.__mro__ }}", 1, "unsafe"),
        ("{{ name | no_such_filter }}", 1, "No filter named 'no_such_filter'"),
        ("#!ipxe\n{% include 'gone.j2' %}\n", 2, "gone.j2"),
        (b"#!ipxe\n\xff\xfe\n", None, "UnicodeDecodeError"),
    ],
)
def test_a_broken_template_is_named_with_its_line(
    site_root: Path, text: str | bytes, line: int | None, says: str
) -> None:
    with pytest.raises(RenderError) as caught:
        render(site_root, "linux.ipxe.j2", text)
    place = f"template {site_root}/templates/linux.ipxe.j2" + (f":{line}: " if line else ": ")
    assert str(caught.value).startswith(place), caught.value
    assert says in str(caught.value)


def test_a_broken_template_costs_its_hosts_their_answer_and_nothing_else(site_root: Path) -> None:
    (site_root / "templates" / "linux.ipxe.j2").write_text("{{ no_such }}")
    world = World(make_site(site_root))
    refused = world.ask("ipxe", query={"mac": MACS["esx-01"]})
    assert refused.status == 500  # type: ignore[union-attr]
    assert "linux.ipxe.j2:1: 'no_such' is undefined" in world.texts()
    assert world.text("ipxe", mac=MACS["esx-02"])
    world.close()


def test_a_template_cannot_be_had_from_outside(site_root: Path) -> None:
    (site_root / "secret.j2").write_text("secret")
    with pytest.raises(RenderError, match=r"secret\.j2"):
        render(site_root, "linux.ipxe.j2", "{% include '../secret.j2' %}")


def test_the_sample_token_has_the_length_of_a_real_one() -> None:
    assert len(SAMPLE_TOKEN) == len(mint(b"s", SAMPLE_ATTEMPT, "192.0.2.7"))


@pytest.mark.parametrize(
    ("main", "http", "tftp", "pbhost"),
    [
        ({}, "http://192.0.2.2:8080", "192.0.2.2", "192.0.2.2:3500"),
        (
            {"server": {"address": "2001:db8::2"}, "http": {"listen": "*:80"}, "tftp": {"listen": "*:6969"}},
            "http://[2001:db8::2]", "[2001:db8::2]:6969", "[2001:db8::2]:3500",
        ),
        ({"callback": {"listen": ["192.0.2.2:4000", "*:4001"]}}, "http://192.0.2.2:8080", "192.0.2.2",
         "192.0.2.2:4000"),
    ],
)  # fmt: skip
def test_where_hosts_reach_the_service(tmp_path: Path, main: dict, http: str, tftp: str, pbhost: str) -> None:  # type: ignore[type-arg]
    urls = Urls.of(make_site(tmp_path, **main))
    assert (urls.http, urls.tftp, str(urls.pbhost)) == (http, tftp, pbhost)


def test_a_site_without_callback_listener_says_so(tmp_path: Path) -> None:
    world = World(make_site(tmp_path, callback={"listen": []}))
    answer, facts = world.answer()
    with pytest.raises(RenderError, match=r"esx-01: .* callback.listen in midwife.yaml gives the port"):
        world.renderer.ipxe(answer, facts, world.image(), SAMPLE_ATTEMPT, SAMPLE_TOKEN)
    world.close()


def test_facts_are_printed_as_words(tmp_path: Path) -> None:
    world = World(make_site(tmp_path))
    answer, _ = world.answer("02:00:00:00:00:99")
    facts = Facts(macs=("02:00:00:00:00:99",), serial="a\nboot\n${x}", vendor="Dell Inc.", model="x" * 100)
    text = world.renderer.wait("ipxe", answer, facts).decode()
    world.close()
    assert f"echo   serial a?boot???x?   vendor Dell Inc.   model {'x' * 64}\n" in text
