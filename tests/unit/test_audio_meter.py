"""Audio is as long as what a decoder would play of it, whatever its headers say."""

from __future__ import annotations

import random
import struct
import threading
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.adapters.audio_meter import AudioMeter

with zipfile.ZipFile(Path(__file__).resolve().parents[1] / "data" / "media" / "tones.zip") as archive:
    TONES = {name: archive.read(name) for name in archive.namelist()}

# What ffmpeg 5.1 decodes of each, in milliseconds: a second, and what its encoder put before or behind.
DECODED_MS = {
    "adpcm.wav": 1020,
    "adts.aac": 1088,
    "bare_vbr.mp3": 1080,
    "flac.ogg": 1000,
    "fragments.m4a": 1088,
    "id3_xing.mp3": 1000,
    "layer_2.mpga": 1008,
    "live.webm": 1000,
    "lossless.m4a": 1000,
    "mp3.wav": 1080,
    "opus.ogg": 1000,
    "opus.webm": 1000,
    "pcm.wav": 1000,
    "sized.flac": 1000,
    "streamed.flac": 1000,
    "table.m4a": 1024,
    "video.mp4": 1024,
    "vorbis.ogg": 1000,
    "vorbis.webm": 1024,
}
FRAMES_MS = 90
"""At most so much more than that: whole frames, of which a decoder drops the first or a part of the last."""
BIG = 25_000_000
METER = AudioMeter()


def measured(data: bytes, filename: str = "x", content_type: str = "") -> int | None:
    return METER.duration_ms(data, filename, content_type)


def at_least(data: bytes, played_ms: int) -> bool:
    """Whether a file that plays so long is billed so, or refused."""
    found = measured(data)
    return found is None or found >= played_ms


def patched(data: bytes, position: int, put: bytes) -> bytes:
    return data[:position] + put + data[position + len(put) :]


# ── what is measured ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_tone_has_its_figure() -> None:
    assert TONES.keys() == DECODED_MS.keys()


@pytest.mark.parametrize("name", DECODED_MS)
def test_a_file_is_as_long_as_a_decoder_plays_it(name: str) -> None:
    found = measured(TONES[name])

    assert found is not None
    assert DECODED_MS[name] <= found <= DECODED_MS[name] + FRAMES_MS
    assert METER.duration_ms(memoryview(TONES[name]), "", "") == found


def test_neither_name_nor_content_type_says_what_a_file_is() -> None:
    assert measured(TONES["opus.ogg"], "speech.wav", "audio/pcm") == measured(TONES["opus.ogg"])


@pytest.mark.parametrize("name", ["id3_xing.mp3", "bare_vbr.mp3", "adts.aac", "opus.ogg", "fragments.m4a", "pcm.wav"])
def test_a_file_cut_short_is_as_long_as_what_is_left(name: str) -> None:
    whole = TONES[name]
    lengths = [measured(whole[: len(whole) * tenth // 10]) or 0 for tenth in range(5, 11)]

    assert lengths == sorted(lengths)
    assert 250 < lengths[0] < 800


def test_raw_speech_is_measured_where_the_answer_says_so() -> None:
    assert METER.duration_ms(bytes(48_000), "", "audio/pcm") == 1000
    assert METER.duration_ms(bytes(2), "", "Audio/PCM; rate=24000") == 1
    assert METER.duration_ms(b"", "", "audio/pcm") is None


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ((1, 2, 44100, 0, 6, 24), 1000),  # 24 bit
        ((3, 1, 44100, 0, 4, 32), 1500),  # float
        ((6, 1, 44100, 0, 1, 8), 6000),  # A-law
        ((0xFFFE, 6, 44100, 0, 12, 16, 22, 16, 0x3F, 1), 500),  # six channels
    ],
)
def test_every_width_of_a_wav_is_measured(layout: tuple[int, ...], expected: int) -> None:
    fmt = struct.pack("<HHIIHH" + "HHIH" * (len(layout) > 6), *layout).ljust(40 if len(layout) > 6 else 16, b"\0")
    chunks = b"LIST\1\0\0\0x\0fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 264600)

    assert measured(b"RIFF\0\0\0\0WAVE" + chunks + bytes(264600) + b"LIST\4\0\0\0abcd") == expected


@pytest.mark.parametrize("name", ["id3_xing.mp3", "sized.flac", "opus.ogg", "pcm.wav"])
def test_a_tag_before_the_audio_is_passed_over(name: str) -> None:
    tag = b"ID3\4\0\0\0\0\2\0" + bytes(256) + bytes(99)

    assert measured(tag + TONES[name]) == measured(TONES[name])


def test_tags_behind_the_audio_add_nothing() -> None:
    assert measured(TONES["id3_xing.mp3"] + b"TAG" + b" " * 125) == measured(TONES["id3_xing.mp3"])


# ── headers that lie ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wav_whose_header_says_too_little_is_measured_to_its_end() -> None:
    wav = TONES["pcm.wav"]
    at = wav.index(b"data") + 4

    for size in (0, 8, 800, 0xFFFFFFFF, 0x7FFFFFFF):
        assert measured(patched(wav, at, struct.pack("<I", size))) == 1000
    ten_minutes = wav + b"\x80" * 8000 * 599
    assert measured(ten_minutes) == 600_000
    assert at_least(wav + b"data" + struct.pack("<I", 8000) + wav[-8000:], 2000)


def test_an_mp3s_count_of_frames_is_not_believed() -> None:
    mp3 = TONES["id3_xing.mp3"]
    at = max(mp3.find(b"Xing"), mp3.find(b"Info")) + 8
    assert at > 8

    assert measured(patched(mp3, at, struct.pack(">I", 1))) == measured(mp3)
    assert at_least(mp3 * 600, 600_000)


@pytest.mark.parametrize("junk", [b"\0", b"x" * 7, b"\xff", b"\xff\xfb", b"\xff\xff\xff\xff", b"ID3\4\0\0\0\0\0\4abcd"])
def test_junk_between_frames_hides_none(junk: bytes) -> None:
    frames = TONES["layer_2.mpga"]
    size = 288
    assert len(frames) % size == 0
    pieces = [frames[at : at + size] for at in range(0, len(frames), size)]

    assert at_least(pieces[0] + pieces[1] + b"".join(junk + piece for piece in pieces[2:]), 1008)


@pytest.mark.parametrize("times", [1, 2])
def test_false_frames_hide_no_real_ones(times: int) -> None:
    # Headers of frames of 1,044 bytes, among real ones of 288: decoders find the real ones behind them.
    tone = TONES["layer_2.mpga"]
    false = b"\xff\xfb\xe4\x00" * times
    pieces = [tone[at : at + 288] for at in range(0, len(tone), 288)]

    assert at_least(tone[:288] + b"".join(false + piece for piece in pieces), 1008)
    paired = bytearray((tone[:288] + false + tone * 20)[:60_000])
    for at in range(288, len(paired) - 4, 3 * 1044):
        paired[at : at + 4] = paired[at + 1044 : at + 1048] = b"\xff\xfb\xe4\x00"
    assert at_least(bytes(paired), 9000)


def test_an_mp3_of_free_bit_rate_is_refused() -> None:
    mp3 = TONES["bare_vbr.mp3"]

    assert measured(b"ID3\4\0\0\0\0\0\0" + patched(mp3, 2, bytes([mp3[2] & 0x0F]))) is None


def test_an_adts_frame_that_hides_others_does_not_make_them_free() -> None:
    adts = TONES["adts.aac"] * 10
    sizes = struct.pack(">H", 8191 << 5 & 0xFFFF)

    assert at_least(patched(adts, 4, sizes), 9000)
    assert at_least(patched(patched(adts, 3, bytes([adts[3] | 3])), 4, sizes), 9000)


def test_a_flacs_count_of_samples_is_not_believed() -> None:
    flac = TONES["sized.flac"]
    rate_and_count = struct.unpack(">Q", flac[18:26])[0]

    for count in (0, 1, 2**36 - 1):
        lying = struct.pack(">Q", rate_and_count >> 36 << 36 | count)
        assert measured(patched(flac, 18, lying)) == 1000


def crc_fixed(page: bytes) -> bytes:
    """The page with a right checksum: bit by bit, as RFC 3533 has it."""
    value = 0
    for byte in patched(page, 22, bytes(4)):
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return patched(page, 22, struct.pack("<I", value))


def pages(ogg: bytes) -> list[bytes]:
    starts = [at for at in range(len(ogg)) if ogg.startswith(b"OggS", at)] + [len(ogg)]
    return [ogg[a:b] for a, b in pairwise(starts)]


@pytest.mark.parametrize("name", ["opus.ogg", "vorbis.ogg", "flac.ogg"])
def test_an_oggs_positions_are_not_believed(name: str) -> None:
    lying = b"".join(crc_fixed(patched(page, 6, bytes(8))) for page in pages(TONES[name]))

    assert measured(lying) == measured(TONES[name])


def test_oggs_in_a_row_are_all_counted() -> None:
    assert at_least(TONES["opus.ogg"] * 10, 10_000)
    assert at_least(TONES["opus.ogg"] + TONES["vorbis.ogg"], 2000)


def test_a_page_that_hides_pages_is_refused() -> None:
    ogg = TONES["opus.ogg"]
    hiding = b"OggS\0\0" + bytes(8) + b"hide" + bytes(8) + b"\xff" + b"\xff" * 255

    for page in (hiding, crc_fixed(hiding + (ogg * 60)[:65025])):
        assert measured(page + ogg * 60) is None or measured(page + ogg * 60) >= 60_000  # type: ignore[operator]


def test_a_webms_duration_is_not_believed() -> None:
    webm = TONES["opus.webm"]
    at = webm.index(b"\x44\x89\x88") + 3

    assert measured(patched(webm, at, struct.pack(">d", 1.0))) == measured(webm)


def test_a_webm_whose_blocks_are_all_at_one_time_is_counted_by_its_packets() -> None:
    webm = bytearray(TONES["live.webm"])
    for at in range(len(webm) - 4):
        if webm[at] == 0xA3 and webm[at + 2] == 0x81:
            webm[at + 3 : at + 5] = b"\0\0"

    assert at_least(bytes(webm), 1000)


def test_a_damaged_webm_is_refused_where_decoders_go_on() -> None:
    webm = TONES["live.webm"]
    cluster = webm.index(b"\x1f\x43\xb6\x75")
    two = webm + webm[cluster:]

    for size in (1, 7, 40):
        damaged = two[: cluster + 30] + two[cluster + 30 + size :]
        assert measured(damaged) is None


def test_laced_and_coded_blocks_are_refused() -> None:
    webm = TONES["opus.webm"]
    block = webm.index(b"\xa3", webm.index(b"\x1f\x43\xb6\x75") + 8)
    flags = block + 2 + webm[block + 1 :].index(b"\x81") + 2

    assert measured(patched(webm, flags, b"\x86")) is None


def box(data: bytes, name: bytes) -> int:
    """Where the only box of this name has its content."""
    assert data.count(name) == 1
    return data.index(name) + 4


@pytest.mark.parametrize("name", ["table.m4a", "lossless.m4a", "video.mp4"])
def test_an_mp4s_durations_are_not_believed(name: str) -> None:
    mp4 = TONES[name]
    lying = patched(mp4, box(mp4, b"mvhd") + 16, struct.pack(">I", 1))
    for tag in (b"mdhd", b"stts"):
        at = 0
        while (at := lying.find(tag, at + 1)) >= 0:
            lying = patched(lying, at + (20 if tag == b"mdhd" else 16), struct.pack(">I", 1))

    assert at_least(lying, DECODED_MS[name])
    assert measured(lying) is not None


def test_fragments_durations_are_not_believed() -> None:
    mp4 = TONES["fragments.m4a"]
    at, lying = 0, mp4
    while (at := mp4.find(b"tfhd", at + 1)) >= 0:
        lying = patched(lying, at + 12, bytes(4))

    assert at_least(lying, 1088)


def test_a_sample_of_several_aac_frames_is_refused() -> None:
    mp4 = TONES["table.m4a"]
    at = box(mp4, b"stsz")
    count = struct.unpack(">I", mp4[at + 8 : at + 12])[0]
    whole = sum(struct.unpack(f">{count}I", mp4[at + 12 : at + 12 + 4 * count]))
    assert whole > 768

    assert measured(patched(mp4, at + 8, struct.pack(">II", 1, whole))) is None
    assert measured(patched(mp4, at + 4, struct.pack(">I", 769))) is None


def test_edits_that_play_a_part_again_are_refused() -> None:
    mp4 = TONES["table.m4a"]
    edits = mp4.index(b"elst") - 4
    end = edits + struct.unpack(">I", mp4[edits : edits + 4])[0]
    entry = mp4[edits + 16 : edits + 28]
    # In place of the tables that follow, for sizes have to fit: what matters is that it is seen.
    repeated = struct.pack(">I4sII", 16 + 24, b"elst", 0, 2) + entry * 2
    outer = mp4.index(b"edts") - 4
    grown = mp4[:outer] + struct.pack(">I4s", len(repeated) + 8, b"edts") + repeated + mp4[end:]
    for name in (b"trak", b"moov"):
        at = grown.index(name) - 4
        size = struct.unpack(">I", grown[at : at + 4])[0]
        grown = patched(grown, at, struct.pack(">I", size + len(grown) - len(mp4)))

    assert measured(mp4[:end] + mp4[end:]) is not None
    assert measured(grown) is None


def test_a_second_movie_or_an_unknown_codec_is_refused() -> None:
    mp4 = TONES["table.m4a"]
    moov = mp4.index(b"moov") - 4
    size = struct.unpack(">I", mp4[moov : moov + 4])[0]

    assert measured(mp4 + mp4[moov : moov + size]) is None
    assert measured(mp4.replace(b"mp4a", b"samr")) is None


def test_an_upload_is_not_raw_speech_because_it_says_so() -> None:
    assert METER.duration_ms(bytes(48_000), "x.pcm", "audio/pcm") is None


# ── hostile bytes ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"RIFF", b"OggS", b"ID3", b"fLaC", b"\xff", b"\xff\xfb", b"\x1a\x45\xdf\xa3", b"%PDF-1.7", b"text"],
)
def test_what_is_no_audio_has_no_length(data: bytes) -> None:
    assert measured(data) is None
    assert measured(data + bytes(1000)) is None


def test_a_program_stream_with_pictures_has_no_length() -> None:
    assert measured(b"\0\0\1\xba" + bytes(10) + b"\0\0\1\xe0" + bytes(2000)) is None


@given(
    st.sampled_from([b"", *(tone[:n] for tone in TONES.values() for n in (4, 8, 16, 64, 400))]), st.binary(max_size=200)
)
def test_no_bytes_make_it_raise(start: bytes, rest: bytes) -> None:
    found = measured(start + rest)

    assert found is None or found > 0


@pytest.mark.parametrize("name", DECODED_MS)
def test_no_change_to_a_file_makes_it_raise(name: str) -> None:
    chance = random.Random(name)
    for _ in range(150):
        data = bytearray(TONES[name])
        for _ in range(chance.randint(1, 5)):
            reach = chance.choice([40, 400, len(data)])
            data[chance.randrange(min(reach, len(data)))] = chance.choice(
                [0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)]
            )
        found = measured(bytes(data[: chance.choice([len(data), chance.randrange(len(data))])]))
        assert found is None or found > 0


def filled(start: bytes, fill: bytes) -> bytes:
    return start + fill * ((BIG - len(start)) // len(fill))


LIVE = TONES["live.webm"]
CLUSTER_AT = LIVE.index(b"\x1f\x43\xb6\x75")
TINY_PAGE = crc_fixed(b"OggS\0\0" + bytes(8) + b"many" + bytes(8) + b"\xff" + bytes(255))
HOSTILE = {
    "MP3 frames": (TONES["bare_vbr.mp3"], TONES["bare_vbr.mp3"]),
    "the shortest MP3 frames": (b"", b"\xff\xf3\x14\xc4" + bytes(20)),
    "false starts": (TONES["bare_vbr.mp3"], b"\xff"),
    "the shortest ADTS frames": (b"", b"\xff\xf1\x60\x40\x00\xff\xfc"),
    "false FLAC frames": (TONES["sized.flac"], b"\xff\xf8\xc9\x08"),
    "tags": (b"", b"ID3\4\0\0\0\0\0\0"),
    "chunks": (TONES["pcm.wav"], b"abcd" + bytes(4)),
    "data chunks": (TONES["pcm.wav"], b"data\1\0\0\0\0\0"),
    "Ogg files": (b"", TONES["opus.ogg"]),
    "packets of no size": (TONES["opus.ogg"], TINY_PAGE),
    "clusters": (LIVE[:CLUSTER_AT], LIVE[CLUSTER_AT:]),
    "blocks of no size": (LIVE, b"\xa3\x85\x81\0\0\x80\0"),
    "voids": (LIVE, b"\xec\x80"),
    "boxes": (TONES["table.m4a"], b"\0\0\0\x08free"),
    "fragments": (TONES["fragments.m4a"], b"\0\0\0\x10moof\0\0\0\x08traf"),
    "zeros": (b"", bytes(1)),
    "PCM": (TONES["pcm.wav"], b"\x80"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_time_is_bounded_whatever_the_bytes(name: str) -> None:
    data = filled(*HOSTILE[name])
    started = time.process_time()
    measured(data)

    # A second or two on an idle machine; this one is shared.
    assert time.process_time() - started < 10


def test_threads_may_share_it() -> None:
    found: list[int | None] = []
    threads = [
        threading.Thread(target=lambda: found.extend(measured(tone) for tone in TONES.values())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(found, key=str) == sorted([measured(tone) for tone in TONES.values()] * 4, key=str)


def test_the_checksum_of_these_tests_is_oggs() -> None:
    assert all(crc_fixed(page) == page for page in pages(TONES["opus.ogg"]))
