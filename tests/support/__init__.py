"""What tests stand on: stand-ins for what cannot run, or would take too long, where tests run."""
