"""The money path under faults: enumerated, random, planted, and on the wire."""
