"""`python -m streamer.config > schemas/config.json`."""

import json
import sys

from streamer.config.load import json_schema

json.dump(json_schema(), sys.stdout, indent=2, ensure_ascii=False)
sys.stdout.write("\n")
