// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {FairmarkGovernance} from "./FairmarkGovernance.sol";
import {FairmarkReaders} from "./FairmarkReaders.sol";
import {FairmarkRounds} from "./FairmarkRounds.sol";
import {FairmarkState} from "./FairmarkState.sol";

/// @title Fairmark: prices on chain that were checked, not trusted
/// @notice Rounds come in through `FairmarkRounds`, are kept as `FairmarkLayout` draws it, read through `FairmarkReaders`
/// and governed by `FairmarkGovernance`. It has all of `IFairmarkOracle`.
contract FairmarkOracle is FairmarkState, FairmarkReaders, FairmarkRounds {
    /// @notice Whether the prices here are simulated. Such an oracle's domain has another name, so that no report can
    /// pass from one kind to the other.
    bool public immutable testMode;
    /// @notice The code that governs, run on this contract's storage. It was created with it and never changes.
    address public immutable governance;

    /// @param testMode_ whether prices are simulated
    /// @param owner_ configures groups; passes ownership on in two steps
    /// @param guardian_ may pause
    constructor(bool testMode_, address owner_, address guardian_)
        EIP712(testMode_ ? "Fairmark test" : "Fairmark", "1")
        Ownable(owner_)
    {
        testMode = testMode_;
        guardian = guardian_;
        governance = address(new FairmarkGovernance());
        emit GuardianSet(guardian_);
    }

    /// @notice Submit a round (see `FairmarkRounds`). Anyone may.
    function submit(bytes calldata payload) external {
        _submit(payload, false);
    }

    /// @notice The same, but false where the group has moved on and `submit` would revert as late.
    function submitIfNewer(bytes calldata payload) external returns (bool accepted) {
        return _submit(payload, true);
    }

    /// @notice Always reverts: an oracle without an owner could never be unpaused.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipIsKept();
    }

    /// @dev All that is not here is `FairmarkGovernance`'s.
    fallback() external {
        address code = governance;
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, 0, calldatasize())
            let ok := delegatecall(gas(), code, free, calldatasize(), 0, 0)
            returndatacopy(free, 0, returndatasize())
            if iszero(ok) { revert(free, returndatasize()) }
            return(free, returndatasize())
        }
    }
}
