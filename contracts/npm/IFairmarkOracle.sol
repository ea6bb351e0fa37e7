// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

import {FairmarkTypes} from "./FairmarkTypes.sol";

/// @title What consumers read of the Fairmark oracle
/// @notice A feed's id is its name as `bytes32`: write `"BTC/USD"`. Prices are integers scaled by the feed's decimals,
/// times are seconds, and no time returned is ever later than `block.timestamp`.
interface IFairmarkOracle is FairmarkTypes {
    /// @notice The price, if it is fresh. Reverts `UnknownFeed`, `UnsetFeed`, `StaleFeed` or `FeedHalted`.
    /// @dev `updatedAt` is when the answer was accepted, or, where that alone would be stale, when it was last attested.
    function getPrice(bytes32 id) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The price and what it is worth. Never reverts; use the price only where `status` is `Fresh`.
    function tryGetPrice(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice `tryGetPrice` of many feeds in one call.
    function tryGetPrices(bytes32[] calldata ids)
        external
        view
        returns (Status[] memory statuses, uint256[] memory prices, uint256[] memory updatedAts);

    /// @notice The prices of several feeds of one group, all written or attested in its last round: `round`, of
    /// `updatedAt`. Reverts as `getPrice` does, and `NotOneRound`.
    function getPrices(bytes32[] calldata ids)
        external
        view
        returns (uint256[] memory prices, uint64 round, uint256 updatedAt);

    /// @notice How much `quote` one `base` costs, both at one round: BTC/USD over ETH/USD is BTC/ETH. Reverts as
    /// `getPrices` does.
    function crossRate(bytes32 base, bytes32 quote, uint8 decimals)
        external
        view
        returns (uint256 price, uint256 updatedAt);

    /// @notice The price, if it is at most `maxAge` seconds old. Reverts `UnknownFeed`, `UnsetFeed`, `TooOld` or
    /// `FeedHalted`. The caller's age counts instead of the heartbeat's.
    function getPriceNoOlderThan(bytes32 id, uint256 maxAge) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The price, if it is at most `maxAge` seconds old, the reporters lay at most `maxSpreadBps` apart and were
    /// at least `minContributors`, and no candidate waits. Reverts with the first of these that does not hold.
    function getPriceChecked(bytes32 id, uint256 maxAge, uint256 maxSpreadBps, uint256 minContributors)
        external
        view
        returns (uint256 price, uint256 updatedAt);

    /// @notice The answer accepted in a round, also while the oracle is paused. Reverts `UnknownFeed` or `NoAnswer`: the
    /// feed was not written in that round, or 64 newer answers have been.
    function getRoundData(bytes32 id, uint64 round)
        external
        view
        returns (uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice The standing answer with its round, whatever its age; a price of zero means that there is none.
    /// `startedAt`: when it was accepted; `updatedAt`: when it was last accepted or attested. Reverts `UnknownFeed`.
    function latestAnswer(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 startedAt, uint256 updatedAt, uint64 round);

    /// @notice The answer that stood at `time` (seconds, not after now), and when it was accepted. Reverts `UnknownFeed`
    /// or `HistoryTooShort`.
    function priceAt(bytes32 id, uint256 time) external view returns (uint256 price, uint256 acceptedAt);

    /// @notice The time-weighted average of the answers that stood over the last `window` seconds. Reverts `UnknownFeed`,
    /// `FeedHalted`, `BadWindow` or `HistoryTooShort`.
    function twap(bytes32 id, uint256 window) external view returns (uint256 price);

    /// @notice A feed's parameters, its group, and the age in seconds beyond which it is stale. Reverts `UnknownFeed`.
    function feedInfo(bytes32 id) external view returns (bytes32 group, FeedConfig memory config, uint256 staleAfter);

    /// @notice What people call the feed; empty where nobody described it.
    function feedDescription(bytes32 id) external view returns (string memory);

    /// @notice A group's state and configuration. Reverts `UnknownGroup`.
    function groupInfo(bytes32 group) external view returns (GroupInfo memory info);

    /// @notice Every feed of a group in one call, so that all of it is of one block. Reverts `UnknownGroup`.
    function readGroup(bytes32 group) external view returns (GroupReading memory reading);

    /// @notice Whether `reporter` committed, in a round of the last 64, to an observation. `roots`: of all the round's
    /// reports, in their order. `leaf`: OpenZeppelin's StandardMerkleTree's. Reverts `UnknownRound` or `WrongRoots`.
    function verifyObservation(
        bytes32 group,
        uint64 round,
        address reporter,
        ReporterRoot[] calldata roots,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view returns (bool);

    /// @notice Submit a round (see `FairmarkRounds`). Anyone may.
    function submit(bytes calldata payload) external;

    /// @notice The same for a consumer that brings the price itself: false, and nothing done, where the group has moved on
    /// already and `submit` would revert as late.
    function submitIfNewer(bytes calldata payload) external returns (bool accepted);
}
