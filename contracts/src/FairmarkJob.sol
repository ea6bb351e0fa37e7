// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title What a round carries from one step to the next
abstract contract FairmarkJob is FairmarkLayout {
    /// @dev `prices`, `unchanged`, `params` are places in memory, `cursor` and `end` in calldata.
    struct Job {
        uint256 number; // the group's
        uint256 header; // as the round finds it
        address blob; // of the set that signs
        uint256 moment; // ms
        uint256 ahead; // s, by which the moment is later than the block
        uint256 time; // s, of the moment or of the block, whichever is earlier
        uint256 round;
        uint256 suffix; // moment, ahead, round and k as contributors, where an answer has them
        uint256 feeds; // how many
        uint256 least; // the greatest minContributors among them
        uint256 params; // of the feeds, `BLOB_FEED` bytes each
        uint256 k; // how many reports
        uint256 prices; // k rows of 8 bytes a feed
        uint256 stride; // bytes from a row to the next
        uint256 unchanged; // k words of bits
        uint256 any; // bits of feeds that some report calls unchanged
        uint256 all; // bits of feeds that every report calls unchanged
        bytes32 zeros; // hash of a row without a price
        uint256 cursor; // what comes next
        uint256 end;
        uint256 wasAttested; // bits, before
        uint256 wasPending;
        uint256 attested; // bits, after
        uint256 pending;
        uint256 written;
        uint256 span; // bytes of all rows
        uint256 bias; // what the shortcut counts from
    }

    /// @dev Where some of its fields lie, for assembly; `JOB`: its bytes.
    uint256 internal constant TIME = 160;
    uint256 internal constant SUFFIX = 224;
    uint256 internal constant PARAMS = 320;
    uint256 internal constant PRICES = 384;
    uint256 internal constant STRIDE = 416;
    uint256 internal constant ALL = 512;
    uint256 internal constant ZEROS = 544;
    uint256 internal constant CURSOR = 576;
    uint256 internal constant SPAN = 800;
    uint256 internal constant BIAS = 832;
    uint256 internal constant JOB = 27 * 32;
}
