// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AggregatorV3Interface} from "./AggregatorV3Interface.sol";
import {FairmarkFeedAdapter} from "./FairmarkFeedAdapter.sol";
import {IFairmarkOracle} from "./IFairmarkOracle.sol";

/// @title One Fairmark feed on a rollup: no answer while the sequencer is down, nor for a while after
/// @notice While a sequencer is down only some can write, and after it comes back old prices must not be traded on before
/// new ones arrive. The gate asks a Chainlink uptime feed: its answer is 0 while the sequencer is up, 1 while it is down.
contract FairmarkGatedFeedAdapter is FairmarkFeedAdapter {
    /// @notice The sequencer is down, or nobody knows whether it is up.
    error SequencerDown();
    /// @notice The sequencer came back less than the grace period ago.
    error GracePeriodNotOver(uint256 since);

    /// @notice The sequencer's uptime feed.
    AggregatorV3Interface public immutable sequencer;
    /// @notice Seconds for which no answer is given after the sequencer came back.
    uint256 public immutable grace;

    /// @notice A feed of an oracle and the gate before it, for good.
    /// @param oracle_ the oracle
    /// @param feedId_ a feed that it has
    /// @param sequencer_ the uptime feed of the chain's sequencer
    /// @param grace_ seconds
    constructor(IFairmarkOracle oracle_, bytes32 feedId_, AggregatorV3Interface sequencer_, uint256 grace_)
        FairmarkFeedAdapter(oracle_, feedId_)
    {
        sequencer = sequencer_;
        grace = grace_;
    }

    /// @inheritdoc FairmarkFeedAdapter
    /// @dev Reverts `SequencerDown` or `GracePeriodNotOver` besides.
    function latestRoundData() public view override returns (uint80, int256, uint256, uint256, uint80) {
        (, int256 down, uint256 since,,) = sequencer.latestRoundData();
        if (down != 0 || since == 0) revert SequencerDown();
        if (block.timestamp <= since + grace) revert GracePeriodNotOver(since);
        return super.latestRoundData();
    }
}
