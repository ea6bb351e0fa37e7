// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkStandings} from "./FairmarkStandings.sol";

/// @title Sets: a group's signers and parameters, written as the code of a contract
abstract contract FairmarkSets is FairmarkStandings {
    /// @dev What a blob is made of.
    struct Set {
        bytes32 group;
        uint256 number;
        uint32 version;
        address[] signers;
        uint8 f;
        uint8 threshold;
        uint32 maxAgeMs;
    }

    function _standingSet(bytes32 group) internal view returns (Set memory set, uint256 header) {
        uint256 number = _numbers[group];
        if (number == 0) revert UnknownGroup(group);
        header = _sload(_headerAt(number));
        address blob = address(uint160(header >> 96));
        uint256 facts = _facts(blob);
        set = Set({
            group: group,
            number: number,
            version: 0,
            signers: _signersIn(blob, facts),
            f: uint8(facts >> 160),
            threshold: uint8(facts >> 168),
            maxAgeMs: uint32(facts >> 176)
        });
    }

    function _feedsOf(uint256 header) internal view returns (FeedConfig[] memory feeds) {
        address blob = address(uint160(header >> 96));
        bytes32[] memory ids = _idsIn(blob, _facts(blob));
        feeds = new FeedConfig[](ids.length);
        for (uint256 i = 0; i < ids.length; ++i) {
            feeds[i] = _config(ids[i], _places[ids[i]]);
        }
    }

    /// @dev Writes the next version of a group as the code of a contract that can do nothing (it begins with STOP).
    function _write(Set memory set, FeedConfig[] memory feeds) internal returns (address blob, bytes32 groupHash) {
        uint256 versionAt = _headerAt(set.number) + 4;
        set.version = uint32(_sload(versionAt) + 1);
        _sstore(versionAt, set.version);
        groupHash =
            keccak256(abi.encode(set.group, set.version, set.signers, set.f, set.threshold, set.maxAgeMs, feeds));
        uint256 n = set.signers.length;
        uint256 size = 1 + BLOB_HEAD + n * 20 + feeds.length * (BLOB_FEED + 32);
        bytes memory code = new bytes(11 + size + 32); // 32 more, so that whole words can be written at the end
        uint256 spot;
        uint256 facts = (set.number << 240) | (uint256(set.version) << 208) | (uint256(set.maxAgeMs) << 176)
            | (uint256(set.threshold) << 168) | (uint256(set.f) << 160) | (n << 152) | ((feeds.length - 1) << 144)
            | (_least(feeds) << 136);
        {
            bytes32 group = set.group;
            bytes32 zeros = keccak256(new bytes(feeds.length << 3)); // what a report signs that calls all unchanged
            assembly ("memory-safe") {
                // eleven bytes that return all that comes after them
                mstore(add(code, 32), shl(168, 0x600B5981380380925939F3))
                spot := add(code, 44) // after the STOP
                mstore(spot, groupHash)
                mstore(add(spot, 32), group)
                mstore(add(spot, 64), facts)
                mstore(add(spot, 80), zeros)
                spot := add(spot, 112)
            }
        }
        for (uint256 i = 0; i < n; ++i) {
            spot = _put(spot, uint256(uint160(set.signers[i])) << 96, 20);
        }
        for (uint256 i = 0; i < feeds.length; ++i) {
            FeedConfig memory feed = feeds[i];
            uint256 params = (uint256(feed.minContributors) << 88) | (uint256(feed.decimals) << 80)
                | (uint256(feed.deviationBps) << 64) | (uint256(feed.limitBps) << 48)
                | (uint256(feed.maxSpreadBps) << 32) | feed.heartbeat;
            spot = _put(spot, params << 160, BLOB_FEED);
        }
        for (uint256 i = 0; i < feeds.length; ++i) {
            spot = _put(spot, uint256(feeds[i].id), 32);
        }
        assembly ("memory-safe") {
            blob := create(0, add(code, 32), add(11, size))
        }
        if (blob == address(0)) revert BadGroup(set.group, "too large");
    }

    function _put(uint256 spot, uint256 word, uint256 length) private pure returns (uint256) {
        assembly ("memory-safe") {
            mstore(spot, word)
        }
        return spot + length;
    }

    function _least(FeedConfig[] memory feeds) private pure returns (uint256 least) {
        for (uint256 i = 0; i < feeds.length; ++i) {
            if (feeds[i].minContributors > least) least = feeds[i].minContributors;
        }
    }
}
