// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.4;

import {AggregatorV3Interface} from "./AggregatorV3Interface.sol";
import {FairmarkTypes} from "./FairmarkTypes.sol";
import {IFairmarkOracle} from "./IFairmarkOracle.sol";

// Shown on a page, which says the rest.
// solhint-disable use-natspec

/// @title The examples of docs/consumers.md, run by tests. Not for use
contract ExampleConsumers {
    /// @notice The price is old.
    error Old();
    /// @notice The reporter did not commit to this.
    error NotSeen();

    /// @notice The oracle.
    IFairmarkOracle public immutable oracle;
    /// @notice A feed in Chainlink's shape.
    AggregatorV3Interface public immutable feed;

    /// @param oracle_ the oracle
    /// @param feed_ an adapter
    constructor(IFairmarkOracle oracle_, AggregatorV3Interface feed_) {
        oracle = oracle_;
        feed = feed_;
    }

    // [checked]
    /// @notice The price of one BTC: at most 120 s old, reporters within 1 %, three of them at least, nothing pending.
    function checked() external view returns (uint256 price) {
        (price,) = oracle.getPriceChecked("BTC/USD", 120, 100, 3);
    }
    // [/checked]

    // [chainlink]
    /// @notice What a consumer of Chainlink's does; it need not know that this is no feed of theirs.
    function chainlink() external view returns (uint256) {
        (uint80 roundId, int256 answer,, uint256 updatedAt, uint80 answeredInRound) = feed.latestRoundData();
        if (answer <= 0 || updatedAt == 0 || answeredInRound < roundId) revert Old();
        if (block.timestamp - updatedAt > 3600) revert Old();
        return uint256(answer);
    }
    // [/chainlink]

    // [pull]
    /// @notice Bring the newest signed round along, then read. False from the oracle is fine: somebody was quicker.
    function pulled(bytes calldata round) external returns (uint256 price) {
        oracle.submitIfNewer(round);
        (price,) = oracle.getPriceNoOlderThan("BTC/USD", 30);
    }
    // [/pull]

    // [evidence]
    /// @notice What a reporter claims to have seen at a source, checked against what it signed in that round.
    function seen(
        uint64 round,
        address reporter,
        FairmarkTypes.ReporterRoot[] calldata roots,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view {
        if (!oracle.verifyObservation("majors", round, reporter, roots, leaf, proof)) revert NotSeen();
    }
    // [/evidence]
}
