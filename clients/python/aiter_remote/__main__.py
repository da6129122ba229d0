"""python3 -m aiter_remote SCRIPT: see launch/main.py."""
from .launch.main import main

main()
