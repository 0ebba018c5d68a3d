"""The library: every bootable image under one name, with sizes, files and loaders."""

import hashlib
import json
from pathlib import Path

import pytest

from midwife.images import shelf
from midwife.images.boot.files import boot_files, build_key
from midwife.images.boot.imported import remove, set_netboot
from midwife.images.boot.iso import import_iso
from midwife.images.boot.library import Kind, Library
from midwife.images.boot.manifest import read_manifest
from midwife.images.boot.module import BootModuleError
from midwife.images.errors import ImageError
from midwife.site.model import Image
from midwife.wire.bootcfg import Module, parse
from tests.images.conftest import stand_in_module
from tests.peers.esxiso import MODULES, LookAlike, esxi_content, look_alike, write_iso

KEY = "ssh-ed25519 AAAA midwife"


@pytest.fixture
def imported(installer: LookAlike, library: Library) -> Library:
    import_iso(installer.path, library, "8.0U3")
    return library


def with_site(library: Library, **images: dict[str, object]) -> Library:
    described = {name: Image.model_validate(data) for name, data in images.items()}
    root = library.images_dir.parents[1]
    return Library(library.images_dir.parent, described, root, KEY, stand_in_module)


def test_an_imported_image(imported: Library, installer: LookAlike) -> None:
    image = imported.get("8.0U3")
    assert (image.kind, image.kernel, image.build) == ("esxi", "b.b00", "8.0.3-0.0.24022510")
    assert [module.name for module in image.modules] == MODULES
    assert image.load_size == sum(len(installer.content[name]) for name in ["b.b00", *MODULES])
    for name, data in installer.content.items():
        file = image.files[name]
        assert (file.path.read_bytes(), file.size) == (data, len(data))
        assert file.sha256 == hashlib.sha256(data).hexdigest()
    assert image.boot_cfg
    assert (image.boot_cfg.kernel, image.boot_cfg.prefix) == ("b.b00", "")


def test_esxis_loaders_have_their_served_names(imported: Library, installer: LookAlike) -> None:
    files = imported.get("8.0U3").files
    assert files["mboot.efi"].path.read_bytes() == installer.content["efi/boot/bootx64.efi"]
    assert files["crypto64.efi"].path.read_bytes() == installer.content["efi/boot/crypto64.efi"]
    assert "mbootaa64.efi" not in files


def test_the_newest_loader_serves_all_who_bring_none(tmp_path: Path, library: Library) -> None:
    """8.0.10 is newer than 8.0.3, whatever the alphabet says."""
    for number, build in enumerate(["8.0.3-0.0.24022510", "8.0.10-0.0.25000000", "6.7.0-0.0.8169922"]):
        import_iso(look_alike(tmp_path, build, f"i{number}.iso", seed=number).path, library)
    old = {k: v for k, v in esxi_content(module_size=100).items() if not k.startswith("efi/")}
    import_iso(write_iso(tmp_path / "bios-only.iso", old), library)

    def from_image(loader: str, prefer: str | None) -> str:
        found = library.loader(loader, prefer)
        return found.path.relative_to(library.images_dir).parts[0] if found else ""

    assert from_image("mboot.efi", None) == "i1"
    assert from_image("mboot.efi", "i2") == "i2"
    assert from_image("mboot.efi", "bios-only") == "i1"
    assert from_image("mboot.c32", "bios-only") == "bios-only"
    assert from_image("crypto64.efi", "no-such-image") == "i1"
    assert library.loader("mbootaa64.efi") is None
    assert library.loader("b.b00") is None, "only loaders"


def test_a_damaged_image_does_not_hide_the_others_loader(imported: Library) -> None:
    broken = imported.images_dir / "broken"
    broken.mkdir()
    (broken / "image.json").write_text("{")
    assert imported.names() == ("8.0U3", "broken")
    assert imported.loader("mboot.efi")
    with pytest.raises(ImageError, match=r"broken.image\.json is damaged; remove the image with"):
        imported.get("broken")


def test_a_removed_module_in_the_manifest_is_told(imported: Library) -> None:
    path = imported.images_dir / "8.0U3" / "image.json"
    data = json.loads(path.read_text())
    del data["files"]["vmx.v00"]
    path.write_text(json.dumps(data))
    with pytest.raises(ImageError, match=r"8\.0U3 is incomplete: /vmx\.v00"):
        imported.get("8.0U3")


@pytest.mark.parametrize("evil", ["/etc/shadow", "../../x", "a//b", "."])
def test_a_manifest_cannot_point_out_of_its_image(evil: str, imported: Library) -> None:
    path = imported.images_dir / "8.0U3" / "image.json"
    data = json.loads(path.read_text())
    data["files"][evil] = {"size": 1, "sha256": ""}
    path.write_text(json.dumps(data))
    with pytest.raises(ImageError, match="damaged"):
        imported.get("8.0U3")


def test_changes_on_disk_show_at_once(imported: Library, installer: LookAlike) -> None:
    assert not imported.get("8.0U3").netboot
    set_netboot(imported.images_dir, "8.0U3", True)
    assert imported.get("8.0U3").netboot
    remove(imported.images_dir, "8.0U3")
    assert imported.names() == ()
    with pytest.raises(ImageError, match="no image is called"):
        imported.get("8.0U3")


@pytest.mark.parametrize("name", ["..", "../8.0U3", "", "8.0U3/files", "x\n"])
def test_names_from_the_network_lead_nowhere(name: str, imported: Library) -> None:
    with pytest.raises(ImageError):
        imported.get(name)


def test_an_unknown_name_gets_a_suggestion(imported: Library) -> None:
    with pytest.raises(ImageError, match=r"no image is called '8\.0u3'; did you mean 8\.0U3\?"):
        imported.get("8.0u3")


class TestBootModule:
    def test_is_the_last_module_of_an_esxi_image(self, imported: Library) -> None:
        set_netboot(imported.images_dir, "8.0U3", True)
        image = imported.get("8.0U3")
        body = stand_in_module(KEY, "esxi")
        assert image.loads[-1] == "midwife.tgz"
        assert image.boot_cfg
        assert image.boot_cfg.modules == image.modules
        assert image.files["midwife.tgz"].path.read_bytes() == body
        assert image.load_size == sum(image.files[name].size for name in image.loads)
        assert image.files["midwife.tgz"].path.name == f"{hashlib.sha256(body).hexdigest()}.tgz"

    def test_is_the_last_initrd_of_a_linux_image(self, tmp_path: Path, library: Library) -> None:
        (tmp_path / "vmlinuz").write_bytes(b"kernel")
        image = with_site(library, rescue={"kernel": "vmlinuz", "netboot": "true"}).get("rescue")
        assert image.loads == ("vmlinuz", "midwife.cpio.gz")
        assert image.files["midwife.cpio.gz"].path.read_bytes() == stand_in_module(KEY, "linux")

    def test_is_written_once(self, imported: Library) -> None:
        made: list[Kind] = []

        def make(key: str, kind: Kind) -> bytes:
            made.append(kind)
            return b"module"

        set_netboot(imported.images_dir, "8.0U3", True)
        data = imported.images_dir.parent
        library = Library(data, {}, data, KEY, make)
        assert library.get("8.0U3") == library.get("8.0U3")
        assert made == ["esxi"]
        assert len(list((data / "boot-modules").iterdir())) == 1
        Library(data, {}, data, KEY, make).get("8.0U3")
        assert len(list((data / "boot-modules").iterdir())) == 1

    def test_describing_an_image_writes_nothing(self, imported: Library) -> None:
        set_netboot(imported.images_dir, "8.0U3", True)
        assert imported.describe("8.0U3").netboot
        assert not (imported.images_dir.parent / "boot-modules").exists()

    def test_one_that_cannot_be_made_is_told(self, imported: Library) -> None:
        def make(key: str, kind: Kind) -> bytes:
            raise BootModuleError("not a public key")

        set_netboot(imported.images_dir, "8.0U3", True)
        library = Library(imported.images_dir.parent, {}, Path(), "", make)
        with pytest.raises(ImageError, match="the boot module for esxi cannot be made: not a public key"):
            library.get("8.0U3")


class TestDescribedInTheSite:
    def test_kernel_and_initrds_in_their_order(self, tmp_path: Path, library: Library) -> None:
        (tmp_path / "boot").mkdir()
        for name in ("Vmlinuz", "base.gz", "Extra.gz"):
            (tmp_path / "boot" / name).write_bytes(name.encode())
        image = with_site(
            library,
            rescue={
                "kernel": "boot/Vmlinuz",
                "initrd": ["boot/Extra.gz", "boot/base.gz"],
                "options": "a=1  b",
            },
        ).get("rescue")
        assert (image.kind, image.kernel, image.boot_cfg) == ("linux", "vmlinuz", None)
        assert image.modules == (Module("extra.gz"), Module("base.gz"))
        assert image.files["vmlinuz"].path == tmp_path / "boot/Vmlinuz"
        assert image.options == "a=1 b"
        assert image.load_size == len("Vmlinuz") + len("base.gz") + len("Extra.gz")

    def test_two_files_of_one_name(self, tmp_path: Path, library: Library) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "initrd.gz").write_bytes(b"x")
        (tmp_path / "k").write_bytes(b"x")
        site = with_site(library, two={"kernel": "k", "initrd": ["a/initrd.gz", "b/initrd.gz"]})
        with pytest.raises(ImageError, match=r"would both be served as two/initrd\.gz; rename one"):
            site.get("two")

    @pytest.mark.parametrize(
        ("described", "reason"),
        [
            ({"kernel": "gone"}, "gone is not there"),
            ({"kernel": "."}, "is not a file"),
            ({"initrd": "x"}, "needs kernel:"),
            ({"imported": "gone"}, "no image is called 'gone'"),
            ({"imported": "8.0U3", "kernel": "k"}, "has both imported: and kernel:"),
        ],
    )
    def test_mistakes_are_told(self, described: dict[str, object], reason: str, imported: Library) -> None:
        with pytest.raises(ImageError, match=reason):
            with_site(imported, x=described).get("x")

    def test_a_name_that_boot_paths_use_otherwise(self, tmp_path: Path, library: Library) -> None:
        (tmp_path / "k").write_bytes(b"x")
        with pytest.raises(ImageError, match="'files' has a meaning of its own"):
            with_site(library, files={"kernel": "k"}).get("files")

    def test_an_imported_image_under_another_name(self, imported: Library) -> None:
        site = with_site(
            imported, lab={"imported": "8.0U3", "options": "allowLegacyCPU=true", "netboot": "yes"}
        )
        lab, plain = site.get("lab"), site.get("8.0U3")
        assert site.names() == ("8.0U3", "lab")
        assert (lab.name, lab.options, lab.loads[-1]) == ("lab", "allowLegacyCPU=true", "midwife.tgz")
        assert (plain.options, plain.loads[-1]) == ("", "imgpayld.tgz")
        assert lab.files["b.b00"] == plain.files["b.b00"]
        assert site.manifest("lab") == site.manifest("8.0U3")
        assert site.loader("mboot.efi", "lab") == plain.files["mboot.efi"]


class TestShelf:
    def test_netboot_is_recorded_and_taken_back(self, imported: Library) -> None:
        before = read_manifest(imported.images_dir / "8.0U3")
        assert set_netboot(imported.images_dir, "8.0U3", True).netboot
        assert set_netboot(imported.images_dir, "8.0U3", False) == before

    def test_remove_leaves_nothing(self, imported: Library) -> None:
        remove(imported.images_dir, "8.0U3")
        assert [entry.name for entry in imported.images_dir.iterdir()] == [".lock"]

    @pytest.mark.parametrize("name", ["gone", "..", ".tmp-x"])
    def test_only_what_is_there(self, name: str, imported: Library) -> None:
        with pytest.raises(ImageError, match=r"no imported image is called|is not an image name"):
            remove(imported.images_dir, name)
        assert imported.names() == ("8.0U3",)

    def test_the_start_of_a_service_leaves_a_running_import_alone(self, imported: Library) -> None:
        draft = imported.images_dir / ".tmp-running"
        with shelf.exclusive(imported.images_dir):
            draft.mkdir()
            shelf.clear_leftovers(imported.images_dir)
            assert draft.exists()
        shelf.clear_leftovers(imported.images_dir)
        assert not draft.exists()
        assert imported.names() == ("8.0U3",)

    def test_nothing_to_clear_before_the_first_import(self, tmp_path: Path) -> None:
        shelf.clear_leftovers(tmp_path / "images")
        assert not (tmp_path / "images").exists()


def test_names_in_boot_cfg_find_their_files() -> None:
    cfg = parse("kernel=/B.B00\nprefix=/ESXi/7\nmodules=/ROOT.GZ opt --- Below.v00 --- gone.v00")
    found = boot_files(cfg, {"b.b00", "root.gz", "esxi/7/below.v00"})
    assert found.missing == ("gone.v00",)
    assert found.cfg.kernel == "b.b00"
    assert found.cfg.modules[:2] == (Module("root.gz", "opt"), Module("esxi/7/below.v00"))


def test_builds_in_their_order() -> None:
    builds = ["8.0.10-0.0.1", "", "6.0.0-3.57.5050593", "8.0.3-0.0.24022510", "8.0.2-0.0.22380479"]
    assert sorted(builds, key=build_key) == [builds[1], builds[2], builds[4], builds[3], builds[0]]
