"""espeak-ng as a program: it reads what is to be said as JSON and writes the samples.  `data.speech` runs it, in a process of its own.

Why a process: the library keeps the phase of its oscillators from word to word, so the same word sounds different after another.  From a
fresh start the same list of words gives the same samples, bit for bit.

    python espeak.py LIBRARY DATA < [["seven", "f2", 160, 50], ...]      text, voice, words per minute, pitch from 0 to 99

Out come a line of JSON, the rate and the number of samples of each, and then the samples, 16 bits each.
"""

import ctypes
import json
import sys
from pathlib import Path

SYNCHRONOUS, UTF_8, SPEED, PITCH = 2, 1, 1, 3  # espeak-ng's numbers for these


def main(library: str, data: str) -> None:
    wanted = json.load(sys.stdin)
    lib = ctypes.CDLL(library)
    rate = lib.espeak_Initialize(SYNCHRONOUS, 0, str(Path(data).parent).encode(), 0)
    if rate <= 0:
        raise SystemExit("espeak-ng: its data can't be read; install espeakng-loader again")
    lib.espeak_ng_SetRandSeed(1)  # of breath and roughness, which would begin with the time of day
    spoken = bytearray()

    def receive(samples, count: int, events) -> int:
        if samples and count > 0:
            spoken.extend(ctypes.string_at(samples, 2 * count))
        return 0

    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(receive)
    lib.espeak_SetSynthCallback(callback)
    counts, total = [], 0
    for text, voice, speed, pitch in wanted:
        if lib.espeak_SetVoiceByName(f"en-us+{voice}".encode()):
            raise SystemExit(f"espeak-ng: there is no voice {voice!r}")
        lib.espeak_SetParameter(SPEED, speed, 0)
        lib.espeak_SetParameter(PITCH, pitch, 0)
        content = text.encode()
        lib.espeak_Synth(content, len(content) + 1, 0, 1, 0, UTF_8, None, None)
        counts.append(len(spoken) // 2 - total)
        total += counts[-1]
    sys.stdout.buffer.write(json.dumps({"rate": rate, "counts": counts}).encode() + b"\n" + spoken)


if __name__ == "__main__":
    main(*sys.argv[1:])
