"""Can every step of a host configuration be carried out as written? Kind, files, templates, secret names.

Templates are parsed, not rendered: that needs a host (``core.plan``). The same sandboxed Jinja2 is used, and
the names that a template may use are those of ``core.plantext``.
"""

import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from midwife.site.checks.bundles import bundle_file
from midwife.site.draft import Draft, Found
from midwife.site.model import Step
from midwife.site.problems import Level, Problem, nearest
from midwife.site.yaml import Document, Place

__all__ = ["check_steps", "check_templates"]

_KINDS = ("run", "esxcli", "upload", "content", "wait-online", "reboot")
_TEXTS = ("name", "run", "esxcli", "content", "to", "reboot", "check", "verify")
_KNOWN = frozenset({"host", "facts", "secret", "range"})
_OF_JINJA = frozenset({"loop", "self", "caller", "varargs", "kwargs"})
_Finding = tuple[int, str, str, Level]
"""Line of the text, what, hint, level."""
# Jinja2's parser has no bounds: deep nesting, numbers of 5,000 digits.
_NOT_TOTAL = (TemplateError, RecursionError, ValueError, OverflowError, MemoryError)
_LARGEST = 1024 * 1024  # as customize.bundles reads templates


def check_steps(draft: Draft) -> Iterator[Problem]:
    """Every step of every host configuration."""
    env = _environment()
    names: dict[str, str] = {}
    for configuration in draft.configurations:
        name, place = configuration.value.name, configuration.place
        if (first := names.setdefault(name, place.line)) != place.line:
            what = f"the host configuration {name} is already described in {first}"
            yield place.at("name").problem(what, "rename one of them")
    for found in draft.steps:
        yield from _check_kind(found)
        yield from _check_upload(draft, env, found)
        for key in _TEXTS:
            text = getattr(found.value, key)
            if text:
                yield from _check_text(draft, env, text, found.place.at(key))


def check_templates(draft: Draft) -> Iterator[Problem]:
    """Syntax of the site's own boot templates, ``templates/*.j2``."""
    env = _environment()
    folder = draft.root / "templates"
    for path in sorted(folder.rglob("*.j2")) if folder.is_dir() else ():
        file = path.relative_to(draft.root).as_posix()
        text, reason = _text_of(path)
        if reason:
            yield Problem(file, 0, 0, reason, "mend or delete it")
            continue
        tree = _parse(env, text)
        if not isinstance(tree, nodes.Template):
            line, what, hint, level = tree
            yield Problem(file, line, 1, what, hint, level)


def _environment() -> Environment:
    env = ImmutableSandboxedEnvironment(autoescape=False)  # only parsed here, and not HTML
    env.filters["quote"] = str
    return env


def _check_kind(found: Found[Step]) -> Iterator[Problem]:
    step, place = found.value, found.place
    given = [kind for kind in _KINDS if getattr(step, kind.replace("-", "_")) is not None]
    if len(given) != 1:
        said = " and ".join(given) or "none of them"
        what = f"{place.name}: a step is one of {', '.join(_KINDS)}; this one is {said}"
        yield place.problem(what, "split it into several steps" if given else "")
    file = bool({"upload", "content"} & set(given))
    if file and not step.to:
        yield place.problem(f"{place.name}: {given[0]} without to", "add to: /path/on/the/host")
    if not file:
        for key in ("to", "mode", "template"):
            if key in step.model_fields_set:
                what = f"{place.name}.{key} belongs to upload and content only"
                yield place.at(key).problem(what, "take it out", key=True)
    if step.to and not step.to.startswith(("/", "{{", "{%")):
        what = f"{place.name}.to: {step.to!r} is not an absolute path"
        yield place.at("to").problem(what, "begin it with /")


def _check_upload(draft: Draft, env: Environment, found: Found[Step]) -> Iterator[Problem]:
    step, place = found.value, found.place.at("upload")
    if step.upload is None or "{{" in str(step.upload) or "{%" in str(step.upload):
        return  # a file name made by a template is known only when there is a host
    real, wrong, hint = bundle_file(draft.root, step.upload)
    if wrong:
        yield place.problem(f"{place.name}: {wrong}", hint)
    elif step.template:
        text, reason = _text_of(real)
        if reason:
            yield place.problem(f"{place.name}: bundles/{step.upload} {reason}", "leave template out")
        else:
            document = Document(f"bundles/{step.upload}", None)
            yield from _check_text(draft, env, text, Place(document), whole_file=True)


def _text_of(path: Path) -> tuple[str, str]:
    """The text, or why there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "", "is not a regular file"
        with path.open("rb") as stream:
            data = stream.read(_LARGEST + 1)
        return ("", f"is larger than {_LARGEST} bytes") if len(data) > _LARGEST else (data.decode(), "")
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        return "", f"is not UTF-8 text (byte {error.start})"


def _check_text(
    draft: Draft, env: Environment, text: str, place: Place, *, whole_file: bool = False
) -> Iterator[Problem]:
    for line, what, hint, level in _findings(env, text, draft.secrets):
        if whole_file:
            yield Problem(place.document.file, line, 1, what, hint, level)
        else:
            yield place.problem(f"{place.name}: {what}", hint, line=line, level=level)


def _parse(env: Environment, text: str) -> nodes.Template | _Finding:
    try:
        return env.parse(text)
    except TemplateSyntaxError as error:
        return error.lineno, f"template: {error.message}", "mend the Jinja2 syntax", "error"
    except _NOT_TOTAL as error:
        return 1, f"template: {type(error).__name__}", "make it simpler", "error"


def _findings(env: Environment, text: str, secrets: Collection[str]) -> list[_Finding]:
    tree = _parse(env, text)
    if not isinstance(tree, nodes.Template):
        return [tree]
    try:
        return list(_look(tree, env, secrets))
    except RecursionError:  # 1 + 1 + 1 + …, a thousand times: the tree is as deep as the sum is long
        return [(1, "template: an expression is too long", "make it simpler", "error")]


def _look(tree: nodes.Template, env: Environment, secrets: Collection[str]) -> Iterator[_Finding]:
    for call in tree.find_all(nodes.Call):
        name = _secret_name(call)
        if name is not None and name not in secrets:
            hint = f"{nearest(name, secrets)}; secrets are declared in midwife.yaml"
            yield call.lineno, f"there is no secret {name!r}", hint, "error"
    for use in tree.find_all(nodes.Filter):
        if use.name not in env.filters:
            yield use.lineno, f"there is no filter {use.name!r}", nearest(use.name, env.filters), "error"
    for name, line in _unknown_names(tree).items():
        hint = "a template knows host, facts and secret('name'); a variable is host.vars.NAME"
        yield line, f"{name!r} is not known to a template", hint, "warning"


def _secret_name(call: nodes.Call) -> str | None:
    """``x`` of ``secret('x')``; None for other calls and for names that are computed."""
    if not isinstance(call.node, nodes.Name) or call.node.name != "secret" or len(call.args) != 1:
        return None
    argument = call.args[0]
    return argument.value if isinstance(argument, nodes.Const) and isinstance(argument.value, str) else None


def _unknown_names(tree: nodes.Template) -> dict[str, int]:
    """Variables that nobody sets, with their lines. (``jinja2.meta`` would compute constants: 9**9**9.)"""
    names = list(tree.find_all(nodes.Name))
    known = _KNOWN | _OF_JINJA | {name.name for name in names if name.ctx != "load"}
    known |= {macro.name for macro in tree.find_all(nodes.Macro)}
    return {name.name: name.lineno for name in reversed(names) if name.name not in known}
