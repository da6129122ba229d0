#!/usr/bin/python3
"""The tutorial's comparison with PyTorch as it stands: 210 calls and 100 of attention written out."""
import unittest

import test_tutorial
import tutorial
from test_tutorial import setUpModule, tearDownModule  # noqa: F401


class Comparison(unittest.TestCase):
    def test_unmodified(self):
        lines, said = tutorial.run(test_tutorial.server, tutorial.blocks()["Comparing with PyTorch"],
                                   after=tutorial.AFTER_COMPARISON, limit=1500)
        tutorial.check_comparison(self, lines, 100)
        self.assertIn("runs unfused on the service (cpu:0)", said)
        print("\n".join(lines[:4]))


if __name__ == "__main__":
    unittest.main()
