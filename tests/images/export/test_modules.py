"""Module names and loading order: the lists of real images, and an independent writer of the same rules."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midwife.images.errors import ProfileError
from midwife.images.export.modules import (
    MODULE_TYPES,
    PlannedFile,
    base_version,
    media_path,
    plan_modules,
)
from midwife.images.objects.constraint import SoftwareProvide
from midwife.images.objects.package import Payload, SoftwarePackage, SoftwarePlatform
from midwife.images.objects.profile import ImageProfile, ProfileVib
from midwife.images.objects.version import SoftwareVersion
from midwife.images.profile.resolved import ResolvedProfile
from tests.images.export.composed import resolved_profile
from tests.peers.esximage import Content, look_alike_profile, media_names, module_order


def vib(
    name: str,
    *payloads: Payload | str,
    vendor: str = "VMW",
    version: str = "6.7.0-0.0.8169922",
    type_: str = "bootbank",
    overlay: bool = False,
    provides: tuple[SoftwareProvide, ...] = (),
    products: tuple[str, ...] = (),
) -> SoftwarePackage:
    """A payload given as text is a vgz of that name."""
    made = tuple(Payload(one, "vgz", 1) if isinstance(one, str) else one for one in payloads)
    return SoftwarePackage(
        name=name,
        version_object=SoftwareVersion.parse(version),
        vendor=vendor,
        type=type_,
        overlay=overlay,
        payloads=made,
        provides=provides,
        software_platforms=tuple(SoftwarePlatform(one, "8.0") for one in products),
    )


def boot(name: str, order: int | None, vfat: str | None = None) -> Payload:
    return Payload(name, "boot", 1, boot_order=order, vfat_name=vfat)


def early(name: str) -> Payload:
    return Payload(name, "vgz", 1, boot_order=100)


def profile_of(*packages: SoftwarePackage, **entries: ProfileVib) -> ResolvedProfile:
    """``entries``: by name of the VIB, in place of a plain one."""
    vibs = sorted(
        (entries.get(one.name.replace("-", "_"), ProfileVib(one.id)) for one in packages), key=lambda v: v.id
    )
    profile = ImageProfile("test", "Lab", vibs=tuple(vibs))
    return ResolvedProfile(profile, {one.id: one for one in packages})


def esx_base_67() -> SoftwarePackage:
    """Payloads and boot orders of the real one of 6.7.0 GA."""
    return vib(
        "esx-base",
        boot("b", 10),
        boot("jumpstrt", 47, "jumpstrt.gz"),
        boot("useropts", 48, "useropts.gz"),
        boot("features", 49, "features.gz"),
        boot("k", 50),
        boot("chardevs", 99),
        boot("user", 100),
        boot("procfs", 101),
        *(early(name) for name in ("s", "sb", "vim", "vmx")),
        Payload("btldr", "tgz", 1),
        Payload("mboot.c32", "boot_com32_bios", 1),
        Payload("efiboot.img", "eltorito_image_efi", 1),
        Payload("osl.txt", "text", 1),
        vendor="VMware",
    )


def the_67_image() -> ResolvedProfile:
    return profile_of(
        esx_base_67(),
        vib("cpu-microcode", boot("uc_intel", None), boot("uc_amd", None), vendor="VMware"),
        vib("ata-libata-92", "ata-libata-92"),
        vib("ata-pata-amd", "ata-pata-amd"),
        vib("ata-pata-atiixp", "ata-pata-atiixp"),
        *(
            vib(f"lsu-lsi-{name}-plugin", f"lsu-lsi-{name}")
            for name in ("lsi-mr3", "msgpt3", "mega-sas", "mpt2sas")
        ),
        vib("rshim", "rshim", version="0.1-10"),
        vib("rshim-net", "rshim-net", version="0.1.0-1"),
        vib("vsan", "vsan", vendor="VMware"),
        vib("tools-light", Payload("tools", "tgz", 1), vendor="VMware", type_="locker"),
        vib("esx-xserver", "xorg", vendor="VMware", overlay=True),
    )


def test_the_list_of_esxi_67() -> None:
    """Head and tail as computed for 6.7.0 GA; rshim_ne before rshim is what a real 8.0.3 shows."""
    plan = plan_modules(the_67_image())
    assert plan.kernel.name == "b.b00"
    assert " ".join(module.name for module in plan.modules) == (
        "jumpstrt.gz useropts.gz features.gz k.b00 chardevs.b00 user.b00 procfs.b00 uc_intel.b00 uc_amd.b00 "
        "vmx.v00 vim.v00 sb.v00 s.v00 ata_liba.v00 ata_pata.v00 ata_pata.v01 "
        "lsu_lsi_.v00 lsu_lsi_.v01 lsu_lsi_.v02 lsu_lsi_.v03 rshim_ne.v00 rshim.v00 "
        "btldr.t00 vsan.v00 tools.t00 xorg.v00"
    )


def test_what_is_for_dpus_alone_is_not_loaded_and_takes_no_name_from_the_host() -> None:
    """A public boot.cfg of 8.0.2 has nvmxnet3.v00 and .v01, and one kernel; its profile has twice as many."""
    dpu = {"products": ("esxio",)}
    both = {"products": ("embeddedEsx", "esxio")}
    plan = plan_modules(
        profile_of(
            vib("esxio-base", boot("b", 10), boot("k", 50), early("s"), vendor="VMware", **dpu),
            vib(
                "esx-base",
                boot("b", 10),
                boot("k", 50),
                early("s"),
                vendor="VMware",
                products=("embeddedEsx",),
            ),
            vib("esxio-combiner", "esxio-combiner", **both),
            *(vib(f"nvmxnet3{name}", f"nvmxnet3{name}") for name in ("-ens", "")),
            *(vib(f"nvmxnet3{name}-esxio", f"nvmxnet3{name}-es", **dpu) for name in ("-ens", "")),
        )
    )
    assert [module.name for module in plan.loads] == [
        "b.b00", "k.b00", "s.v00", "esxio_co.v00", "nvmxnet3.v00", "nvmxnet3.v01",
    ]  # fmt: skip
    assert sorted(other.name for other in plan.others) == [
        "b.b01", "k.b01", "nvmxnet3.v02", "nvmxnet3.v03", "s.v01",
    ]  # fmt: skip
    with pytest.raises(ProfileError, match="no bootable kernel"):
        plan_modules(profile_of(vib("esxio-base", boot("b", 10), **dpu)))


def test_files_that_are_not_loaded_have_names_too() -> None:
    plan = plan_modules(the_67_image())
    assert [other.name for other in plan.others] == ["mboot.c3.b00", "efiboot..e00", "osl.txt.t00"]


@pytest.mark.parametrize("kind", ["5.5.0", "6.7.0", "7.0.3", "8.0.3", "9.0.1"])
def test_an_independent_writer_comes_to_the_same(kind: str) -> None:
    content = look_alike_profile(kind)
    plan = plan_modules(resolved_profile(content))
    names = media_names(content.standard)
    assert dict(plan.names) == names
    assert [loaded.name for loaded in plan.loads] == [
        names[vib_id, payload.name] for vib_id, payload in module_order(content.standard)
    ]
    assert base_version(resolved_profile(content)) == content.build


def test_names_that_the_profile_gives_are_kept() -> None:
    base = esx_base_67()
    lsu = [vib(f"lsu-lsi-{name}-plugin", f"lsu-lsi-{name}") for name in ("aaa", "bbb")]
    kept = ProfileVib(lsu[1].id, payloads={"lsu-lsi-bbb": "LSU_LSI_.V00"})
    plan = plan_modules(profile_of(base, *lsu, lsu_lsi_bbb_plugin=kept))
    assert plan.names[lsu[1].id, "lsu-lsi-bbb"] == "lsu_lsi_.v00"
    assert plan.names[lsu[0].id, "lsu-lsi-aaa"] == "lsu_lsi_.v01"


@pytest.mark.parametrize(
    "given_name", ["../b.b00", "boot.cfg", "a b", "a---b.gz", "", "x" * 99, "imgdb.tgz", "é.v00"]
)
def test_a_name_that_no_medium_can_have_is_not_kept(given_name: str) -> None:
    driver = vib("driver", "driver")
    plan = plan_modules(
        profile_of(esx_base_67(), driver, driver=ProfileVib(driver.id, payloads={"driver": given_name}))
    )
    assert plan.names[driver.id, "driver"] == "driver.v00"


@pytest.mark.parametrize(
    "wish", ["../../x.gz", "boot.cfg", "toolongname.gz", "no-ext", "a/b.gz", "jumpstrt.gz"]
)
def test_a_wish_that_cannot_be_granted_is_passed_over(wish: str) -> None:
    """The last one is taken by esx-base, whose id comes first."""
    driver = vib("zz-driver", Payload("driver", "vgz", 1, vfat_name=wish), vendor="ZZ")
    assert plan_modules(profile_of(esx_base_67(), driver)).names[driver.id, "driver"] == "driver.v00"


def test_a_vib_that_is_not_booted_is_no_module() -> None:
    tools = vib("tools-light", Payload("tools", "tgz", 1), vendor="VMware", type_="locker")
    plan = plan_modules(profile_of(esx_base_67(), tools, tools_light=ProfileVib(tools.id, boot=False)))
    assert "tools.t00" not in [module.name for module in plan.modules]
    assert "tools.t00" in [other.name for other in plan.others]


def test_esxi_9_modules_are_loaded() -> None:
    driver = vib("driver", Payload("driver", "vzstd", 1))
    assert "driver.v00" in [module.name for module in plan_modules(profile_of(esx_base_67(), driver)).modules]


def test_nothing_to_boot_is_said() -> None:
    with pytest.raises(ProfileError, match=r"no bootable kernel module.*add the base VIB"):
        plan_modules(profile_of(vib("driver", "driver")))


def test_a_vib_that_is_nowhere_is_said() -> None:
    incomplete = replace(profile_of(esx_base_67()), missing=("VMW_bootbank_gone_1.0",))
    with pytest.raises(ProfileError, match=r"VMW_bootbank_gone_1\.0; add the depot"):
        plan_modules(incomplete)


def test_the_257th_of_a_stem_is_refused() -> None:
    crowd = [vib(f"x{number:03}", f"samestem{number:03}") for number in range(256)]
    names = plan_modules(profile_of(esx_base_67(), *crowd)).names
    assert names[crowd[255].id, "samestem255"] == "samestem.vff"
    with pytest.raises(ProfileError, match="room for 256"):
        plan_modules(profile_of(esx_base_67(), *crowd, vib("x256", "samestem256")))


def test_the_build_comes_from_esx_base_or_what_it_provides() -> None:
    assert (
        base_version(profile_of(esx_base_67(), vib("esx-update", version="6.7.0-9"))) == "6.7.0-0.0.8169922"
    )
    provider = vib("mini", provides=(SoftwareProvide("esx-version", SoftwareVersion.parse("6.7.0")),))
    assert base_version(profile_of(provider, vib("driver", "driver"))) == "6.7.0"
    assert base_version(profile_of(vib("driver", "driver"))) == ""


@pytest.mark.parametrize(
    ("type_", "name", "path"),
    [
        ("boot_iso_bios", "isolinux.bin", "isolinux.bin"),
        ("boot_com32_bios", "mboot.c32", "mboot.c32"),
        ("boot_com32_bios", "menu", "menu.c32"),
        ("boot_loader_efi", "BOOTx64.EFI", "efi/boot/bootx64.efi"),
        ("boot_loader_efi", "mboot64", "efi/boot/bootx64.efi"),
        ("boot_loader_efi", "crypto64.efi", "efi/boot/crypto64.efi"),
        ("eltorito_image_efi", "efiboot.img", "efiboot.img"),
        ("upgrade", "precheck.py", "upgrade/precheck.py"),
        ("text", "osl.txt", "vmware-esx-base-osl.txt"),
        ("vgz", "some-module", "some_mod.v00"),
        ("boot_com32_bios", "../../x", "_.._x"),
    ],
)
def test_where_loaders_and_the_installers_files_lie(type_: str, name: str, path: str) -> None:
    package = vib("esx-base", Payload(name, type_, 1), vendor="VMware")
    assert media_path(PlannedFile(package.id, package.payloads[0], "some_mod.v00"), package) == path


def test_the_look_alikes_loaders_lie_where_its_own_iso_has_them(esxi: Content) -> None:
    resolved = resolved_profile(esxi)
    paths = {media_path(other, resolved.packages[other.vib]) for other in plan_modules(resolved).others}
    assert {
        "isolinux.bin",
        "mboot.c32",
        "efiboot.img",
        "efi/boot/bootx64.efi",
        "upgrade/esximage.zip",
    } <= paths


_PAYLOADS = st.builds(
    Payload,
    name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=15),
    type=st.sampled_from([*sorted(MODULE_TYPES), "text", "", "../", "Ünknown"]),
    size=st.just(1),
    boot_order=st.one_of(st.none(), st.integers(0, 200), st.just(100)),
    vfat_name=st.one_of(st.none(), st.text(max_size=12)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(_PAYLOADS, max_size=4, unique_by=lambda one: one.name), max_size=6), st.randoms())
def test_every_payload_gets_one_harmless_name(vibs: list[list[Payload]], dice: object) -> None:
    packages = [vib(f"vib{number}", *payloads) for number, payloads in enumerate(vibs)]
    plan = plan_modules(profile_of(esx_base_67(), *packages))
    everything = [*plan.loads, *plan.others]
    names = [file.name for file in everything]
    assert len(everything) == sum(len(payloads) for payloads in vibs) + len(esx_base_67().payloads)
    assert len(set(names)) == len(names)
    for name in names:
        assert name == name.lower()
        assert not {"/", "\\", " "} & set(name)
        assert name.isascii()
        assert name.isprintable()
        assert name not in ("", ".", "..", "boot.cfg", "imgdb.tgz")
