// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title What both halves of the oracle keep in storage, in one order: `FairmarkLayout`'s, `Ownable2Step`'s, and this
abstract contract FairmarkState is FairmarkLayout, Ownable2Step {
    /// @notice Another guardian may pause from now on.
    event GuardianSet(address guardian);

    /// @notice May pause and halt, and nothing else.
    address public guardian;
    /// @notice Whether rounds are refused and answers halted.
    bool public paused;
    /// @notice May configure feeds.
    address public feedsManager;
    /// @notice May rotate and revoke signers.
    address public signersManager;
    /// @notice How many groups there are; they are numbered from 1.
    uint256 public groupCount;
}
