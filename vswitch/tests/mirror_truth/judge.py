"""What a mirror must deliver, worked out anew from what was sent, and held against what came.

judge.py FOLDER SEQUENCE SCAPY: `sent` holds the frames with their virtio headers, `span.pcap` the copies of a SPAN session to
a trunk, `two.pcap` and `three.pcap` those of ERSPAN sessions in type II and III, whose first packets are to have the number
SEQUENCE. So many packets of each ERSPAN file are read by scapy as well. Prints how many copies there are.

Nothing here is taken from the switch: segmentation, checksums and headers are written down again, from the standards.
"""
import array
import collections
import struct
import sys

NEEDS_CSUM, TCP4, TCP6, UDP_L4 = 1, 1, 4, 5


def fold(octets, start=0):
    if len(octets) % 2:
        octets += b'\0'
    words = array.array('H', octets)
    words.byteswap()
    total = sum(words) + start
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def finish(frame, flags, gso_type, gso_size, start, offset):
    """The frames that a network card makes of one."""
    if not flags & NEEDS_CSUM:
        return [frame]
    l3 = 14
    while frame[l3 - 2:l3] in (b'\x81\0', b'\x88\xa8'):
        l3 += 4
    v6 = frame[l3] >> 4 == 6
    if not gso_type:
        end = l3 + (40 + int.from_bytes(frame[l3 + 4:l3 + 6], 'big') if v6 else int.from_bytes(frame[l3 + 2:l3 + 4], 'big'))
        value = 0xffff - fold(frame[start:end])
        udp = offset == 6
        value = 0xffff if udp and value == 0 else value
        at = start + offset
        return [frame[:at] + struct.pack('>H', value) + frame[at + 2:]]
    tcp = gso_type in (TCP4, TCP6)
    header = start + ((frame[start + 12] >> 4) * 4 if tcp else 8)
    payload = frame[header:]
    pieces = [payload[at:at + gso_size] for at in range(0, len(payload), gso_size)]
    out = []
    for number, piece in enumerate(pieces):
        f = bytearray(frame[:header] + piece)
        if v6:
            f[l3 + 4:l3 + 6] = struct.pack('>H', len(f) - l3 - 40)
            pseudo = bytes(f[l3 + 8:l3 + 40])
        else:
            f[l3 + 2:l3 + 4] = struct.pack('>H', len(f) - l3)
            ident = int.from_bytes(f[l3 + 4:l3 + 6], 'big') + number & 0xffff
            f[l3 + 4:l3 + 6] = struct.pack('>H', ident)
            f[l3 + 10:l3 + 12] = b'\0\0'
            f[l3 + 10:l3 + 12] = struct.pack('>H', 0xffff - fold(bytes(f[l3:start])))
            pseudo = bytes(f[l3 + 12:l3 + 20])
        if tcp:
            sequence = int.from_bytes(f[start + 4:start + 8], 'big') + number * gso_size & 0xffffffff
            f[start + 4:start + 8] = struct.pack('>I', sequence)
            if number + 1 < len(pieces):
                f[start + 13] &= ~0x09 & 0xff
        else:
            f[start + 4:start + 6] = struct.pack('>H', len(f) - start)
        at = start + offset
        f[at:at + 2] = b'\0\0'
        protocol = 6 if tcp else 17
        value = 0xffff - fold(bytes(f[start:]), fold(pseudo, protocol + len(f) - start))
        f[at:at + 2] = struct.pack('>H', 0xffff if value == 0 and not tcp else value)
        out.append(bytes(f))
    return out


def sent(path):
    octets = open(path, 'rb').read()
    at = 0
    while at < len(octets):
        length, vlan, flags, gso_type, gso_size, start, offset = struct.unpack_from('<IHBBHHH', octets, at)
        at += 14
        yield octets[at:at + length], vlan, flags, gso_type, gso_size, start, offset
        at += length


def captured(path):
    octets = open(path, 'rb').read()
    assert octets[:4] in (b'\xd4\xc3\xb2\xa1', b'\x4d\x3c\xb2\xa1', b'\xa1\xb2\xc3\xd4'), octets[:4]
    order = '>' if octets[0] == 0xa1 else '<'
    at = 24
    while at < len(octets):
        kept, length = struct.unpack_from(order + '8xII', octets, at)
        assert kept == length
        at += 16
        yield octets[at:at + kept]
        at += kept


def erspan(packet, sequence, version):
    """The frame, VLAN and class of service of a copy; every field of the headers is looked at."""
    assert packet[12:14] == b'\x08\0' and packet[14] == 0x45
    total = int.from_bytes(packet[16:18], 'big')
    assert total == len(packet) - 14 and packet[20:22] == b'\x40\0', 'whole, and not to be fragmented'
    assert fold(packet[14:34]) == 0xffff and packet[23] == 47
    gre = packet[34:]
    protocol = {1: b'\x88\xbe', 2: b'\x22\xeb'}[version]
    assert gre[:4] == b'\x10\0' + protocol
    assert int.from_bytes(gre[4:8], 'big') == sequence, (int.from_bytes(gre[4:8], 'big'), sequence)
    first, = struct.unpack('>I', gre[8:12])
    assert first >> 28 == version and first & 0x3ff == 50 + version and not first >> 10 & 1, hex(first)
    vlan, cos = first >> 16 & 0xfff, first >> 13 & 7
    if version == 1:
        en, port = first >> 11 & 3, int.from_bytes(gre[12:16], 'big')
        return gre[16:], vlan, cos, en, port
    flags = int.from_bytes(gre[18:20], 'big')
    assert flags >> 15 == 1 and flags >> 10 & 31 == 0 and flags >> 1 & 3 == 2 and flags & 1
    sub, seconds = struct.unpack('>II', gre[20:28])
    assert sub >> 26 == 3 and seconds == 1_700_000_000
    return gre[28:], vlan, cos, None, sub & 0x3fff


def tagged(frame, vlan):
    if frame[12:14] in (b'\x81\0', b'\x88\xa8'):
        return frame[:14] + struct.pack('>H', int.from_bytes(frame[14:16], 'big') & 0xf000 | vlan) + frame[16:]
    return frame[:12] + struct.pack('>HH', 0x8100, vlan) + frame[12:]


def header(frame, vlan):
    """What type II says of the frame, and the frame without the tag of its VLAN."""
    if frame[12:14] in (b'\x81\0', b'\x88\xa8'):
        return (vlan, frame[14] >> 5, 2), frame[:12] + frame[16:]
    return (vlan, 0, 0), frame


def compare(what, expected, got):
    """Both are lists of (addresses, copy): the same ones, and those of two stations in the same order."""
    assert collections.Counter(expected) == collections.Counter(got), f'{what}: other copies than expected'
    for both in {addresses for addresses, _ in expected}:
        assert [c for a, c in expected if a == both] == [c for a, c in got if a == both], f'{what}: order'


def by_scapy(path, most, version):
    from scapy.all import RawPcapReader, Ether, raw
    from scapy.contrib.erspan import ERSPAN_II, ERSPAN_III, ERSPAN_PlatformSpecific
    for number, (octets, _) in enumerate(RawPcapReader(path)):
        if number >= most:
            break
        packet = Ether(octets)
        head = packet.getlayer(ERSPAN_II) or packet.getlayer(ERSPAN_III)
        frame = (packet.getlayer(ERSPAN_PlatformSpecific) or head).payload
        assert head.ver == version
        yield raw(frame), head.vlan, head.cos


def main(folder, sequence, scapy):
    span, far = [], []
    for frame, vlan, flags, gso_type, gso_size, start, offset in sent(f'{folder}/sent'):
        for piece in finish(frame, flags, gso_type, gso_size, start, offset):
            addresses = piece[:12]
            span.append((addresses, tagged(piece, vlan)))
            far.append((addresses, header(piece, vlan)))
    compare('SPAN', span, [(frame[:12], frame) for frame in captured(f'{folder}/span.pcap')])
    for name, version in (('two', 1), ('three', 2)):
        got, plain = [], []
        for number, packet in enumerate(captured(f'{folder}/{name}.pcap')):
            frame, vlan, cos, en, _ = erspan(packet, sequence + number, version)
            got.append((frame[:12], ((vlan, cos, en), frame)))
            plain.append((frame, vlan, cos))
        expected = [(a, ((v, c, e if version == 1 else None), f)) for a, ((v, c, e), f) in far]
        compare(f'ERSPAN type {version + 1}', expected, got)
        read = list(by_scapy(f'{folder}/{name}.pcap', scapy, version))
        assert read == plain[:len(read)] and len(read) == min(scapy, len(plain)), 'scapy'
    print(len(far))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
