// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title What the governing half keeps in storage: `FairmarkLayout`'s, `Ownable2Step`'s, and this
/// @dev Six slots after the layout's, which the other half leaves to it (`FairmarkOracle`).
abstract contract FairmarkState is FairmarkLayout, Ownable2Step {
    /// @notice Another guardian may pause from now on.
    /// @param guardian zero for none
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
