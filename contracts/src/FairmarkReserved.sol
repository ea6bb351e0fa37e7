// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkLayout} from "./FairmarkLayout.sol";

/// @title The slots that are the governing half's, where the other half sees them
/// @dev Functions that it does not have are functions that need not be looked past when one is called: each costs every
/// call after it 22 gas.
abstract contract FairmarkReserved is FairmarkLayout {
    /// @dev As many as `FairmarkState` and `Ownable2Step` use. A test compares the two.
    uint256[6] private _governed;
}
