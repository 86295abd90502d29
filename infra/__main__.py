"""The entry point of `pulumi up`: everything is in `infra.program`."""

from infra.program import main

main()
