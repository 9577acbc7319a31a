#!/usr/bin/env python3
"""Write the versions in a task's run record as YAML: versions.py PROCESS RECORD > versions.yml."""

import json
import sys
from pathlib import Path

process, record = sys.argv[1:]
print(f'"{process}":')
for name, version in json.loads(Path(record).read_text())["versions"].items():
    print(f'  {name}: "{version}"')
