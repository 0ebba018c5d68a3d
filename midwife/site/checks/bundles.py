"""Files of the site's bundles/ that are named elsewhere: are they there, inside, and what they should be?"""

from collections.abc import Iterator
from pathlib import Path

from midwife.site.draft import Draft
from midwife.site.problems import Problem

__all__ = ["bundle_file", "check_script_bundles"]

_GZIP = b"\x1f\x8b"  # RFC 1952


def bundle_file(root: Path, name: str | Path) -> tuple[Path, str, str]:
    """The real path of ``bundles/NAME``, and what is wrong with it ("" if nothing) and what to do about it."""
    bundles = root / "bundles"
    try:
        real = (bundles.resolve() / name).resolve(strict=True)
        inside = real.is_relative_to(bundles.resolve())
        regular = real.is_file()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # RuntimeError: a loop of symbolic links (3.11, 3.12)
        reason = getattr(error, "strerror", None) or (
            "a loop of symbolic links" if isinstance(error, RuntimeError) else "not a path"
        )
        return bundles / name, f"bundles/{name}: {reason}", "put the file into bundles/"
    if not inside:
        return real, f"bundles/{name} leads out of bundles/", "copy the file into bundles/"
    if not regular:
        return real, f"bundles/{name} is not a file", "name a file in bundles/"
    return real, "", ""


def check_script_bundles(draft: Draft) -> Iterator[Problem]:
    """Those that rules name: .tgz files, as Auto Deploy's Add-ScriptBundle takes them."""
    for found in draft.items:
        name, place = found.value.script_bundle, found.place.at("script-bundle")
        if name is None:
            continue
        real, wrong, hint = bundle_file(draft.root, name)
        if not wrong:
            try:
                with real.open("rb") as file:
                    if file.read(2) != _GZIP:
                        wrong, hint = f"bundles/{name} is not gzip-compressed", "make it with: tar -czf"
            except OSError as error:
                wrong, hint = f"bundles/{name}: {error.strerror}", "mend its mode"
        if wrong:
            yield place.problem(f"{place.name}: {wrong}", hint)
