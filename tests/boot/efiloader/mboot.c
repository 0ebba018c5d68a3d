/* A stand-in for ESXi's mboot.efi that real UEFI firmware loads and runs: it reads boot.cfg as mboot does, fetches
 * kernel and modules through the firmware's own TFTP, and starts a Linux kernel with them.
 *
 * Like mboot it looks for DIRECTORY/01-MAC/boot.cfg beside itself, resolves names against prefix=, asks for all
 * sizes before it reads, unpacks the kernel (gzip; here only stored blocks, as the tests pack it) and appends
 * BOOTIF=. The first module is Linux's initial RAM disk; Linux sees the others as files in /modules.
 *
 * Freestanding and position independent, without one absolute address: efiloader/__init__.py puts the header of an
 * EFI application before it. Names and numbers are those of the UEFI specification 2.10.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef void *ptr;
#define EFIAPI __attribute__((ms_abi))
#define TOO_SMALL 0x8000000000000005ull

typedef struct { u32 a; u16 b, c; u8 d[8]; } guid;
typedef struct { ptr reset; u64 (EFIAPI *print)(ptr, const u16 *); } console;
typedef struct { u8 header[24]; ptr f[44]; } services;
typedef struct { u8 header[64]; console *out; ptr errors[2]; ptr runtime; services *boot; } table;
typedef struct { u8 before[24]; ptr device; u8 between[16]; u32 options_size; u16 *options; } loaded;
typedef u64 (EFIAPI *mtftp)(ptr, u32, ptr, u8, u64 *, u64 *, ptr, const char *, ptr, u8);
typedef struct { u64 revision; ptr f[4]; mtftp tftp; ptr g[7]; u8 *mode; } pxe;
typedef struct { const char *name; u8 *data; u64 size; } module;

enum { ALLOCATE_PAGES = 2, INSTALL_PROTOCOL = 13, HANDLE_PROTOCOL = 16, LOAD_IMAGE = 22, START_IMAGE = 23 };
enum { ACK_RECEIVED = 9, OFFER_RECEIVED = 10, REPLY_RECEIVED = 12, PACKETS = 52, PACKET = 1472 };
enum { SIADDR = 20, CHADDR = 28, BOOT_FILE = 108, OPTIONS = 240 };
enum { GET_SIZE = 1, READ_FILE = 2, MODULES = 200, NAME = 400 };

static const guid LOADED_IMAGE = {0x5B1B31A1, 0x9562, 0x11D2, {0x8E, 0x3F, 0, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
static const guid PXE = {0x03C4E603, 0xAC28, 0x11D3, {0x9A, 0x2D, 0, 0x90, 0x27, 0x3F, 0xC1, 0x4D}};
static const guid DEVICE_PATH = {0x09576E91, 0x6D3F, 0x11D2, {0x8E, 0x39, 0, 0xA0, 0xC9, 0x69, 0x72, 0x3B}};
static const guid LOAD_FILE2 = {0x4006C0C1, 0xFCB3, 0x403E, {0x99, 0x6D, 0x4A, 0x6C, 0x87, 0x24, 0xE0, 0x6D}};
/* Where Linux looks for its initial RAM disk: a device path of this vendor, with LoadFile2. */
static const u8 INITRD_PATH[] = {4, 3, 20, 0, 0x27, 0xE4, 0x68, 0x55, 0xFC, 0x68, 0x3D, 0x4F, 0xAC, 0x74,
                                 0xCA, 0x55, 0x52, 0x31, 0xCC, 0x68, 0x7F, 0xFF, 4, 0};

static table *sys;
static pxe *net;
static u8 *server;
static u8 *initrd;
static u64 initrd_size;
static struct { u64 (EFIAPI *load)(ptr, ptr, u8, u64 *, u8 *); } load_file2;

#define CALL(number, type, ...) (((u64 (EFIAPI *) type) sys->boot->f[number]) (__VA_ARGS__))

/* The compiler calls these by itself. */
void *memcpy(void *to, const void *from, u64 size) {
    for (u64 i = 0; i < size; i++) ((u8 *) to)[i] = ((const u8 *) from)[i];
    return to;
}
void *memset(void *to, int value, u64 size) {
    for (u64 i = 0; i < size; i++) ((u8 *) to)[i] = (u8) value;
    return to;
}

static u64 length(const char *text) {
    u64 size = 0;
    while (text[size]) size++;
    return size;
}

static char *append(char *to, const char *text) {
    while (*text) *to++ = *text++;
    *to = 0;
    return to;
}

static void say(const char *text) {
    u16 wide[600], *to = wide;
    while (*text && to < wide + 596) *to++ = (u8) *text++;
    *to++ = '\r', *to++ = '\n', *to = 0;
    sys->out->print(sys->out, wide);
}

static void stop(const char *what, const char *which) {
    char line[NAME + 100];
    append(append(append(line, "LOADER FAIL "), what), which);
    say(line);
    for (;;) __asm__("hlt");
}

static u8 *room(u64 size) {
    u64 at = 0;
    if (CALL(ALLOCATE_PAGES, (u32, u32, u64, u64 *), 0, 2, (size + 4096) >> 12, &at)) stop("no memory", "");
    return (u8 *) at;
}

static u64 size_of(const char *name) {
    u64 size = 0;
    return net->tftp(net, GET_SIZE, 0, 0, &size, 0, server, name, 0, 0) ? 0 : size;
}

static u8 *fetch(const char *name, u64 size) {
    u8 *data = room(size + 1);
    u64 got = size, block = 1468; /* what fits an Ethernet frame */
    if (net->tftp(net, READ_FILE, data, 0, &got, &block, server, name, 0, 0) || got != size) stop("cannot read ", name);
    data[size] = 0;
    return data;
}

/* gzip (RFC 1952) of stored blocks (RFC 1951 3.2.4); unpacked in place. */
static u64 unpacked(u8 *data, u64 size) {
    u64 from = 10, to = 0;
    if (data[0] != 0x1F || data[1] != 0x8B || data[3]) stop("no gzip without a name: ", "kernel");
    for (u8 last = 0; !last;) {
        if (from + 5 > size || (data[from] & 6)) stop("not a stored block: ", "kernel");
        last = data[from] & 1;
        u64 count = data[from + 1] | data[from + 2] << 8;
        from += 5;
        for (u64 i = 0; i < count; i++) data[to++] = data[from++];
    }
    return to;
}

/* The value of a key, cut out of the text in place; "" if there is none. */
static char *value_of(char *text, const char *key) {
    u64 size = length(key);
    for (char *line = text; *line;) {
        char *end = line;
        u64 same = 0;
        while (same < size && line[same] == key[same]) same++;
        while (*end && *end != '\n') end++;
        if (same == size && line[size] == '=') {
            char *value = (char *) room(end - line);
            memcpy(value, line + size + 1, end - line - size - 1);
            value[end - line - size - 1] = 0;
            return value;
        }
        line = *end ? end + 1 : end;
    }
    return "";
}

static char *resolved(const char *prefix, const char *name) {
    char *path = (char *) room(length(prefix) + length(name) + 2);
    append(append(append(path, prefix), "/"), name);
    return path;
}

/* One entry of a newc archive (Linux: driver-api/early-userspace/buffer-format); gives where the next begins. */
static u8 *entry(u8 *to, const char *folder, const char *name, u32 mode, const u8 *data, u64 size) {
    u64 named = length(folder) + length(name) + 1;
    u32 fields[13] = {1, mode, 0, 0, 1, 0, (u32) size, 0, 0, 0, 0, (u32) named, 0};
    u8 *start = to;
    to = (u8 *) append((char *) to, "070701");
    for (int field = 0; field < 13; field++)
        for (int shift = 28; shift >= 0; shift -= 4) *to++ = "0123456789ABCDEF"[fields[field] >> shift & 15];
    to = (u8 *) append(append((char *) to, folder), name) + 1;
    while ((to - start) & 3) *to++ = 0;
    memcpy(to, data, size);
    for (to += size; (to - start) & 3;) *to++ = 0;
    return to;
}

static u64 EFIAPI give_initrd(ptr this, ptr path, u8 policy, u64 *size, u8 *buffer) {
    (void) this, (void) path, (void) policy;
    u64 have = *size;
    *size = initrd_size;
    if (!buffer || have < initrd_size) return TOO_SMALL;
    memcpy(buffer, initrd, initrd_size);
    return 0;
}

/* Which server has which file, as DHCP said; gives the MAC address. */
static u8 *directory_of(char *directory) {
    u8 *mode = net->mode, *packet = 0;
    if (mode[ACK_RECEIVED]) packet = mode + PACKETS + PACKET;
    if (mode[OFFER_RECEIVED]) packet = mode + PACKETS + 2 * PACKET;
    if (mode[REPLY_RECEIVED]) packet = mode + PACKETS + 4 * PACKET;
    if (!packet) stop("the firmware knows no DHCP answer", "");
    const u8 *file = packet + BOOT_FILE;
    u64 size = length((const char *) file);
    server = packet + SIADDR;
    for (u8 *option = packet + OPTIONS; option < packet + PACKET - 2 && *option != 255;) {
        if (*option == 0) { option++; continue; }
        if (*option == 54 && !(server[0] | server[1] | server[2] | server[3])) server = option + 2;
        if (*option == 67) file = option + 2, size = option[1];
        option += 2 + option[1];
    }
    while (size && file[size - 1] != '/') size--;
    memcpy(directory, file, size);
    directory[size] = 0;
    return packet + CHADDR;
}

u64 EFIAPI efi_main(ptr image, table *system) {
    char path[NAME], bootif[32], *to;
    u8 address[16] = {0};
    loaded *self, *linux_image;
    ptr kernel = 0, handle = 0;
    module modules[MODULES];
    int count = 0;

    sys = system;
    CALL(HANDLE_PROTOCOL, (ptr, const guid *, ptr), image, &LOADED_IMAGE, &self);
    if (CALL(HANDLE_PROTOCOL, (ptr, const guid *, ptr), self->device, &PXE, &net)) stop("not booted by PXE", "");
    u8 *mac = directory_of(path);
    memcpy(address, server, 4);
    server = address;
    to = append(bootif, "01");
    for (int i = 0; i < 6; i++) {
        *to++ = '-', *to++ = "0123456789abcdef"[mac[i] >> 4], *to++ = "0123456789abcdef"[mac[i] & 15];
    }
    *to = 0;
    append(append(path + length(path), bootif), "/boot.cfg");
    say(path);
    u64 size = size_of(path);
    if (!size) stop("no ", path);
    char *text = (char *) fetch(path, size);
    say(value_of(text, "title"));

    char *prefix = value_of(text, "prefix"), *names = value_of(text, "modules");
    modules[count++].name = value_of(text, "kernel");
    for (char *at = names; *at;) { /* "a --- b --- c" */
        char *end = at;
        while (*end && *end != ' ') end++;
        u8 more = *end == ' ';
        *end = 0;
        if (*at && at[0] != '-') modules[count++].name = at;
        if (count == MODULES) stop("too many modules", "");
        at = end + more;
    }
    u64 whole = 4096;
    for (int i = 0; i < count; i++) {
        char *name = resolved(prefix, modules[i].name);
        modules[i].size = size_of(name);
        if (!modules[i].size) stop("no ", name);
        whole += modules[i].size + 512;
    }
    for (int i = 0; i < count; i++) modules[i].data = fetch(resolved(prefix, modules[i].name), modules[i].size);
    say("LOADER has everything");

    initrd = room(whole);
    memcpy(initrd, modules[1].data, modules[1].size);
    u8 *end = initrd + modules[1].size;
    while ((end - initrd) & 3) *end++ = 0;
    end = entry(end, "", "modules", 0040755, 0, 0);
    for (int i = 2; i < count; i++) end = entry(end, "modules/", modules[i].name, 0100644, modules[i].data, modules[i].size);
    end = entry(end, "", "TRAILER!!!", 0, 0, 0);
    initrd_size = end - initrd;
    load_file2.load = give_initrd;
    if (CALL(INSTALL_PROTOCOL, (ptr *, const guid *, u32, const void *), &handle, &DEVICE_PATH, 0, INITRD_PATH)
        || CALL(INSTALL_PROTOCOL, (ptr *, const guid *, u32, const void *), &handle, &LOAD_FILE2, 0, &load_file2))
        stop("the initial RAM disk cannot be offered", "");

    size = unpacked(modules[0].data, modules[0].size);
    if (CALL(LOAD_IMAGE, (u8, ptr, ptr, ptr, u64, ptr *), 0, image, 0, modules[0].data, size, &kernel))
        stop("this is no EFI kernel: ", modules[0].name);
    CALL(HANDLE_PROTOCOL, (ptr, const guid *, ptr), kernel, &LOADED_IMAGE, &linux_image);
    const char *words[] = {value_of(text, "kernelopt"), " BOOTIF=", bootif};
    u16 *line = (u16 *) room(4096), *wide = line;
    for (int i = 0; i < 3; i++)
        for (const char *word = words[i]; *word && wide < line + 2000;) *wide++ = (u8) *word++;
    *wide = 0;
    linux_image->options = line;
    linux_image->options_size = (u32) ((wide - line + 1) * 2);
    CALL(START_IMAGE, (ptr, u64 *, u16 **), kernel, 0, 0);
    stop("the kernel came back", "");
    return 0;
}
