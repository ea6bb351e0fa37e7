// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Address} from "@openzeppelin/contracts/utils/Address.sol";

import {FairmarkGovernance} from "./FairmarkGovernance.sol";
import {FairmarkReaders} from "./FairmarkReaders.sol";
import {FairmarkReserved} from "./FairmarkReserved.sol";
import {FairmarkRounds} from "./FairmarkRounds.sol";

/// @title Fairmark: prices on chain that were checked, not trusted
/// @notice Rounds come in through `FairmarkRounds`, are kept as `FairmarkLayout` draws it, read through `FairmarkReaders`
/// and governed by `FairmarkGovernance`. It has all of `IFairmarkOracle`.
contract FairmarkOracle is FairmarkReserved, FairmarkReaders, FairmarkRounds {
    /// @notice Whether the prices here are simulated. Such an oracle's domain has another name, so that no report can
    /// pass from one kind to the other.
    bool public immutable testMode;
    /// @notice The code that governs, run on this contract's storage. It was created with it and never changes.
    address public immutable governance;

    /// @notice An oracle without groups.
    /// @param testMode_ whether prices are simulated
    /// @param owner_ configures groups; passes ownership on in two steps
    /// @param guardian_ may pause
    constructor(bool testMode_, address owner_, address guardian_)
        EIP712(testMode_ ? "Fairmark test" : "Fairmark", "1")
    {
        testMode = testMode_;
        governance = address(new FairmarkGovernance());
        Address.functionDelegateCall(governance, abi.encodeCall(FairmarkGovernance.initialize, (owner_, guardian_)));
    }

    /// @notice Submit a round (see `FairmarkRounds`). Anyone may.
    /// @param payload the round, packed
    function submit(bytes calldata payload) external {
        _submit(payload, false);
    }

    /// @notice The same, but false where the group has moved on and `submit` would revert as late.
    /// @param payload the round, packed
    /// @return accepted whether this call brought the round
    function submitIfNewer(bytes calldata payload) external returns (bool accepted) {
        return _submit(payload, true);
    }

    /// @notice All that is not here is `FairmarkGovernance`'s.
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
