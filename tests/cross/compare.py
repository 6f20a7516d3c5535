"""Compares what two programs printed as JSON lines, number by number.

    compare.py ONE OTHER

Everything else has to be equal. Prints the largest differences; ends with 1 where one is too large, and says which.
"""

import json
import re
import sys
from pathlib import Path

# The most that two machines may differ by; a name that is not here is compared as the last. Both run the same int8
# networks, whose sums are exact; what differs is the order in which floats are added before and after, and so now and
# then on which side of a half a value is rounded to its level. Seen in the emulator: 0.0031 for a score, 0.0091 for the
# margin, which is the difference of two.
TOLERANCES = [
    (r"\.box\.|eye_distance_px", 0.1),  # pixels, of pictures 500 wide
    (r"_deg$", 0.1),
    (r"exposure", 0.1),  # levels of 255
    (r"margin$", 0.02),
    (r"", 0.01),  # scores and the like, from 0 to 1
]
# Times, and folders that the two do not share.
LEFT_OUT = r"_ms$"


def numbers(value, path=""):
    """Leaves with the path to each."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{index}]")
    else:
        yield path, value


def leaves(file: str) -> dict:
    lines = [json.loads(line) for line in Path(file).read_text().splitlines() if line.startswith("{")]
    return {path: value for path, value in numbers(lines) if not re.search(LEFT_OUT, path)}


def main() -> None:
    one, other = leaves(sys.argv[1]), leaves(sys.argv[2])
    if not one or one.keys() != other.keys():
        sys.exit(f"not the same fields: {sorted(one.keys() ^ other.keys())[:5]}")
    largest = {tolerance: 0.0 for _, tolerance in TOLERANCES}
    compared = 0
    for path, value in one.items():
        found = other[path]
        if isinstance(value, float) and isinstance(found, float):
            tolerance = next(tolerance for pattern, tolerance in TOLERANCES if re.search(pattern, path))
            difference = abs(value - found)
            if not difference <= tolerance:
                sys.exit(f"{path}: {value} and {found} differ by {difference:.6g}, more than {tolerance}")
            largest[tolerance] = max(largest[tolerance], difference)
            compared += 1
        elif value != found:
            sys.exit(f"{path}: {value!r} and {found!r}")
    told = ", ".join(f"{difference:.2g} where {tolerance} may be" for tolerance, difference in largest.items())
    print(f"{compared} numbers, the rest equal; largest differences {told}")


if __name__ == "__main__":
    main()
