#!/usr/bin/env python3
"""check_read_pairs.py SOURCE_DIR PAIR_SET EXPECTED: scripts/read_pairs.py gives the float32 numbers in EXPECTED."""
import sys

import numpy as np

sys.path.insert(0, sys.argv[1] + "/scripts")
import read_pairs  # noqa: E402

expected = np.fromfile(sys.argv[3], dtype=np.float32)
at = count = 0
for sample in read_pairs.read_pairs(sys.argv[2]):
    assert sample["id"] == count and sample["text"] == f"sample {count} é", sample["text"]
    assert len(sample["alignment"]) == len(sample["target"]["ids"])
    for side in ("source", "target"):
        for name in ("keys", "values"):
            x = sample[side][name].ravel()
            assert np.array_equal(x, expected[at:at + x.size]), (count, side, name)
            at += x.size
    count += 1
assert at == expected.size and count == 9, (at, expected.size, count)
