// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

/// @title Which oracle a feed stands in
/// @notice The oracle has no proxy: it never changes under its consumers. Who wants to follow a move asks here; every move
/// is announced `DELAY` before it counts.
contract FairmarkDirectory is Ownable2Step {
    struct Entry {
        address oracle;
        uint48 from;
        address next;
    }

    /// @notice A feed moves: until `from` (seconds) it is read at `standing`, after that at `next`.
    /// @param id the feed's name
    /// @param standing an oracle; zero where the feed is new here
    /// @param next an oracle
    /// @param from seconds
    event FeedMoved(bytes32 indexed id, address indexed standing, address indexed next, uint256 from);

    /// @notice The directory does not know the feed.
    error UnknownFeed(bytes32 id);
    /// @notice A feed cannot move to nowhere.
    error NoOracle(bytes32 id);

    /// @notice How long a move is announced before it counts.
    uint256 public constant DELAY = 2 days;

    mapping(bytes32 id => Entry) private _entries;

    /// @notice An empty directory.
    /// @param owner_ moves feeds
    constructor(address owner_) Ownable(owner_) {}

    /// @notice Announce that a feed moves; its first place counts at once. Announcing again replaces a move that does not
    /// count yet. The owner may.
    /// @param id the feed's name
    /// @param oracle where the feed is read next
    function move(bytes32 id, address oracle) external onlyOwner {
        if (oracle == address(0)) revert NoOracle(id);
        Entry memory entry = _entries[id];
        address standing = _now(entry);
        uint256 from = standing == address(0) ? block.timestamp : block.timestamp + DELAY;
        _entries[id] = Entry(standing, uint48(from), oracle);
        emit FeedMoved(id, standing, oracle, from);
    }

    /// @notice Where the feed is read now. Reverts `UnknownFeed`.
    /// @param id the feed's name
    /// @return oracle never zero
    function oracleOf(bytes32 id) external view returns (address oracle) {
        oracle = _now(_entries[id]);
        if (oracle == address(0)) revert UnknownFeed(id);
    }

    /// @notice The move that is announced, if any: where to, and from when (seconds).
    /// @param id the feed's name
    /// @return next zero: none is announced
    /// @return from seconds
    function moveOf(bytes32 id) external view returns (address next, uint256 from) {
        Entry memory entry = _entries[id];
        if (entry.from > block.timestamp) return (entry.next, entry.from);
    }

    function _now(Entry memory entry) private view returns (address) {
        return entry.from <= block.timestamp ? entry.next : entry.oracle;
    }
}
