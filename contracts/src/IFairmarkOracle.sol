// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

import {FairmarkTypes} from "./FairmarkTypes.sol";

/// @title What consumers read of the Fairmark oracle
/// @notice A feed's id is its name as `bytes32`: write `"BTC/USD"`. Prices are integers scaled by the feed's decimals,
/// times are seconds, and no time returned is ever later than `block.timestamp`.
interface IFairmarkOracle is FairmarkTypes {
    /// @notice The price, if it is fresh. Reverts `UnknownFeed`, `UnsetFeed`, `StaleFeed` or `FeedHalted`.
    /// @dev `updatedAt` is when the answer was accepted, or, where that alone would be stale, when it was last attested.
    /// @param id the feed's name
    /// @return price scaled by the feed's decimals
    /// @return updatedAt seconds
    function getPrice(bytes32 id) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The price and what it is worth. Never reverts; use the price only where `status` is `Fresh`.
    /// @param id the feed's name
    /// @return status what the price is worth
    /// @return price the standing answer; zero where there is none
    /// @return updatedAt when it was last accepted or attested, in seconds
    /// @return spreadBps how far the reporters' prices lay apart, in basis points of the answer
    /// @return contributors how many reporters had a price
    function tryGetPrice(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice `tryGetPrice` of many feeds in one call.
    /// @param ids the feeds' names
    /// @return statuses one for each, in order
    /// @return prices zero where there is none
    /// @return updatedAts seconds
    function tryGetPrices(bytes32[] calldata ids)
        external
        view
        returns (Status[] memory statuses, uint256[] memory prices, uint256[] memory updatedAts);

    /// @notice The prices of several feeds of one group, all written or attested in its last round: `round`, of
    /// `updatedAt`. Reverts as `getPrice` does, and `NotOneRound`.
    /// @param ids the feeds' names
    /// @return prices one for each, in order, each scaled by its own feed's decimals
    /// @return round the group's last
    /// @return updatedAt of that round, in seconds
    function getPrices(bytes32[] calldata ids)
        external
        view
        returns (uint256[] memory prices, uint64 round, uint256 updatedAt);

    /// @notice How much `quote` one `base` costs, both at one round: BTC/USD over ETH/USD is BTC/ETH. Reverts as
    /// `getPrices` does.
    /// @param base the feed that is priced
    /// @param quote the feed that it is priced in, of the same group
    /// @param decimals the scale of the result
    /// @return price rounded down
    /// @return updatedAt of the round, in seconds
    function crossRate(bytes32 base, bytes32 quote, uint8 decimals)
        external
        view
        returns (uint256 price, uint256 updatedAt);

    /// @notice The price, if it is at most `maxAge` seconds old. Reverts `UnknownFeed`, `UnsetFeed`, `TooOld` or
    /// `FeedHalted`. The caller's age counts instead of the heartbeat's.
    /// @param id the feed's name
    /// @param maxAge seconds
    /// @return price scaled by the feed's decimals
    /// @return updatedAt seconds
    function getPriceNoOlderThan(bytes32 id, uint256 maxAge) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The price, if it is at most `maxAge` seconds old, the reporters lay at most `maxSpreadBps` apart and were
    /// at least `minContributors`, and no candidate waits. Reverts with the first of these that does not hold.
    /// @param id the feed's name
    /// @param maxAge seconds
    /// @param maxSpreadBps basis points
    /// @param minContributors reporters
    /// @return price scaled by the feed's decimals
    /// @return updatedAt seconds
    function getPriceChecked(bytes32 id, uint256 maxAge, uint256 maxSpreadBps, uint256 minContributors)
        external
        view
        returns (uint256 price, uint256 updatedAt);

    /// @notice The answer accepted in a round, also while the oracle is paused. Reverts `UnknownFeed` or `NoAnswer`: the
    /// feed was not written in that round, or 64 newer answers have been.
    /// @param id the feed's name
    /// @param round the group's
    /// @return price scaled by the feed's decimals
    /// @return updatedAt when the answer was accepted, in seconds
    /// @return spreadBps basis points
    /// @return contributors reporters
    function getRoundData(bytes32 id, uint64 round)
        external
        view
        returns (uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice The standing answer with its round, whatever its age; a price of zero means that there is none.
    /// `startedAt`: when it was accepted; `updatedAt`: when it was last accepted or attested. Reverts `UnknownFeed`.
    /// @param id the feed's name
    /// @return status what the answer is worth
    /// @return price scaled by the feed's decimals
    /// @return startedAt seconds
    /// @return updatedAt seconds
    /// @return round in which it was accepted
    function latestAnswer(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 startedAt, uint256 updatedAt, uint64 round);

    /// @notice The answer that stood at `time` (seconds, not after now), and when it was accepted. Reverts `UnknownFeed`
    /// or `HistoryTooShort`.
    /// @param id the feed's name
    /// @param time seconds
    /// @return price scaled by the feed's decimals
    /// @return acceptedAt seconds, at most `time`
    function priceAt(bytes32 id, uint256 time) external view returns (uint256 price, uint256 acceptedAt);

    /// @notice The time-weighted average of the answers that stood over the last `window` seconds. Reverts `UnknownFeed`,
    /// `FeedHalted`, `BadWindow` or `HistoryTooShort`.
    /// @param id the feed's name
    /// @param window seconds, less than 2^24
    /// @return price scaled by the feed's decimals, rounded down
    function twap(bytes32 id, uint256 window) external view returns (uint256 price);

    /// @notice A feed's parameters, its group, and the age in seconds beyond which it is stale. Reverts `UnknownFeed`.
    /// @param id the feed's name
    /// @return group the group's name
    /// @return config its parameters
    /// @return staleAfter seconds
    function feedInfo(bytes32 id) external view returns (bytes32 group, FeedConfig memory config, uint256 staleAfter);

    /// @notice What people call the feed; empty where nobody described it.
    /// @param id the feed's name
    /// @return as its manager wrote it
    function feedDescription(bytes32 id) external view returns (string memory);

    /// @notice A group's state and configuration. Reverts `UnknownGroup`.
    /// @param group the group's name
    /// @return info as reporters should sign for it now
    function groupInfo(bytes32 group) external view returns (GroupInfo memory info);

    /// @notice Every feed of a group in one call, so that all of it is of one block. Reverts `UnknownGroup`.
    /// @param group the group's name
    /// @return reading the group and each of its feeds, in order
    function readGroup(bytes32 group) external view returns (GroupReading memory reading);

    /// @notice Whether `reporter` committed, in a round of the last 64, to an observation. `roots`: of all the round's
    /// reports, in their order. `leaf`: OpenZeppelin's StandardMerkleTree's. Reverts `UnknownRound` or `WrongRoots`.
    /// @param group the group's name
    /// @param round the group's
    /// @param reporter who is said to have committed to it
    /// @param roots each report's reporter and evidence root
    /// @param leaf the observation's
    /// @param proof from the leaf to the reporter's root
    /// @return whether the proof leads to the root that `reporter` signed
    function verifyObservation(
        bytes32 group,
        uint64 round,
        address reporter,
        ReporterRoot[] calldata roots,
        bytes32 leaf,
        bytes32[] calldata proof
    ) external view returns (bool);

    /// @notice Submit a round (see `FairmarkRounds`). Anyone may.
    /// @param payload the round, packed
    function submit(bytes calldata payload) external;

    /// @notice The same for a consumer that brings the price itself: false, and nothing done, where the group has moved on
    /// already and `submit` would revert as late.
    /// @param payload the round, packed
    /// @return accepted whether this call brought the round
    function submitIfNewer(bytes calldata payload) external returns (bool accepted);
}
