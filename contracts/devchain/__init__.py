"""An EVM chain for development and tests: eth-tester's, behind JSON-RPC, in a process of its own.

`python -m contracts.devchain --port 8545 --chain-id 31337 --fund 0x…`. Every transaction is mined at once, in a block
whose time is the wall clock's.

chain    the chain itself, synchronous
methods  JSON-RPC's methods over it
service  the HTTP server
"""

from contracts.devchain.chain import DevChain

__all__ = ["DevChain"]
