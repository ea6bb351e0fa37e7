// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {AggregatorV3Interface} from "./AggregatorV3Interface.sol";
import {FairmarkTypes} from "./FairmarkTypes.sol";
import {IFairmarkOracle} from "./IFairmarkOracle.sol";

/// @title One Fairmark feed, in the shape that Chainlink's consumers read
/// @notice Round ids are the group's rounds. `startedAt` is when the answer was accepted, `updatedAt` when it was last
/// accepted or attested as unchanged. A stale answer is returned with its old time, as Chainlink does: check it.
contract FairmarkFeedAdapter is AggregatorV3Interface {
    /// @notice There is no answer in this round; zero: there is no answer at all.
    error NoDataPresent(uint80 roundId);
    /// @notice The oracle is paused: its answers are not to be used.
    error Halted();

    /// @notice Where the prices come from.
    IFairmarkOracle public immutable oracle;
    /// @notice The feed's name, as `bytes32`.
    bytes32 public immutable feedId;
    /// @inheritdoc AggregatorV3Interface
    uint8 public immutable decimals;

    /// @notice A feed of an oracle, for good.
    /// @param oracle_ the oracle
    /// @param feedId_ a feed that it has; reverts `UnknownFeed` otherwise
    constructor(IFairmarkOracle oracle_, bytes32 feedId_) {
        (, FairmarkTypes.FeedConfig memory config,) = oracle_.feedInfo(feedId_);
        oracle = oracle_;
        feedId = feedId_;
        decimals = config.decimals;
    }

    /// @inheritdoc AggregatorV3Interface
    function version() external pure returns (uint256) {
        return 1;
    }

    /// @inheritdoc AggregatorV3Interface
    /// @dev "BTC/USD" as "BTC / USD".
    function description() external view returns (string memory) {
        string memory given = oracle.feedDescription(feedId);
        if (bytes(given).length != 0) return given;
        bytes memory text = new bytes(34);
        uint256 length = 0;
        for (uint256 i = 0; i < 32 && feedId[i] != 0; ++i) {
            if (feedId[i] == "/") {
                text[length++] = " ";
                text[length++] = "/";
                text[length++] = " ";
            } else {
                text[length++] = feedId[i];
            }
        }
        assembly ("memory-safe") {
            mstore(text, length)
        }
        return string(text);
    }

    /// @inheritdoc AggregatorV3Interface
    /// @dev Reverts `NoDataPresent` for a round in which the feed has no answer.
    function getRoundData(uint80 roundId)
        external
        view
        returns (uint80, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        if (roundId > type(uint64).max) revert NoDataPresent(roundId);
        try oracle.getRoundData(feedId, uint64(roundId)) returns (uint256 price, uint256 time, uint16, uint8) {
            return (roundId, int256(price), time, time, roundId);
        } catch {
            revert NoDataPresent(roundId);
        }
    }

    /// @inheritdoc AggregatorV3Interface
    /// @dev Reverts `NoDataPresent` while the feed is unset and `Halted` while it, or all of the oracle, is halted. While
    /// a candidate waits, the standing answer is returned: it grows old, and is not what the reporters see now.
    function latestRoundData()
        public
        view
        virtual
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)
    {
        FairmarkTypes.Status status;
        uint256 price;
        (status, price, startedAt, updatedAt, roundId) = oracle.latestAnswer(feedId);
        if (status == FairmarkTypes.Status.Halted) revert Halted();
        if (price == 0) revert NoDataPresent(0);
        return (roundId, int256(price), startedAt, updatedAt, roundId);
    }
}
