"""Name what is in a photograph, and save the photograph with the answer on it."""

import sys

import edgebone

bundle, picture, output = sys.argv[1:]
with edgebone.load(bundle) as model:
    result = model(picture)
    print(f"{picture}: {result}")
    for row in result.rows():
        print(row)
    result.save(output)
