// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title What consumers read of the Fairmark oracle
/// @notice A feed's id is its name as `bytes32`: write `"BTC/USD"`. Prices are integers scaled by the feed's decimals,
/// times are seconds, and no time returned is ever later than `block.timestamp`.
interface IFairmarkOracle {
    /// @notice What a feed's answer is worth. A feed is stale when `block.timestamp - updatedAt` exceeds its
    /// `staleAfter`: its heartbeat, and above it the age up to which the round that renews it is still accepted.
    /// `Unset` is zero, so that a forgotten check reads as "no price".
    enum Status {
        Unset,
        Fresh,
        Stale,
        Halted,
        Unknown
    }

    /// @notice A feed's parameters.
    /// @param id the feed's name
    /// @param decimals the scale of its prices
    /// @param minContributors fewest reporters with a price for one to be accepted
    /// @param deviationBps movement that calls for a round before the heartbeat, in basis points
    /// @param heartbeat seconds within which a new answer is due
    struct FeedConfig {
        bytes32 id;
        uint8 decimals;
        uint8 minContributors;
        uint16 deviationBps;
        uint32 heartbeat;
    }

    /// @notice One feed in a `GroupReading`. `moment`: the exact time of its round, in milliseconds.
    struct FeedReading {
        bytes32 id;
        uint8 decimals;
        Status status;
        uint32 heartbeat;
        uint32 staleAfter;
        uint256 price;
        uint64 round;
        uint48 moment;
        uint64 updatedAt;
        uint16 spreadBps;
        uint8 contributors;
    }

    /// @notice All of a group at one block. `moment`: the newest round's, in milliseconds.
    struct GroupReading {
        bytes32 groupHash;
        uint32 version;
        uint64 round;
        uint48 moment;
        uint64 acceptedBlock;
        bool paused;
        uint256 blockTimestamp;
        FeedReading[] feeds;
    }

    /// @notice A group's state and configuration.
    struct GroupInfo {
        bytes32 group;
        uint32 version;
        bytes32 groupHash;
        uint64 round;
        uint48 lastMoment;
        uint64 acceptedBlock;
        uint8 threshold;
        uint8 f;
        uint32 maxAgeMs;
        bool paused;
        uint256 blockTimestamp;
        address[] signers;
        FeedConfig[] feeds;
    }

    /// @notice No group is configured under this name.
    error UnknownGroup(bytes32 group);
    /// @notice No feed is configured under this name.
    error UnknownFeed(bytes32 id);
    /// @notice The feed never had an answer.
    error UnsetFeed(bytes32 id);
    /// @notice The feed's answer is older than its heartbeat allows.
    error StaleFeed(bytes32 id, uint256 updatedAt, uint256 staleAfter);
    /// @notice The feed's answer is older than the caller allows.
    error TooOld(bytes32 id, uint256 updatedAt, uint256 maxAge);
    /// @notice The oracle is paused: its answers are not to be used.
    error FeedHalted(bytes32 id);
    /// @notice The feed has no answer in this round.
    error NoAnswer(bytes32 id, uint64 round);

    /// @notice The price, if it is fresh. Reverts `UnknownFeed`, `UnsetFeed`, `StaleFeed` or `FeedHalted`.
    function getPrice(bytes32 id) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The price and what it is worth. Never reverts; use the price only where `status` is `Fresh`.
    function tryGetPrice(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice The price, if it is at most `maxAge` seconds old. Reverts `UnknownFeed`, `UnsetFeed`, `TooOld` or
    /// `FeedHalted`. The caller's age counts instead of the heartbeat's.
    function getPriceNoOlderThan(bytes32 id, uint256 maxAge) external view returns (uint256 price, uint256 updatedAt);

    /// @notice The answer accepted in a round, also while the oracle is paused. Reverts `UnknownFeed` or `NoAnswer`.
    function getRoundData(bytes32 id, uint64 round)
        external
        view
        returns (uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors);

    /// @notice The standing answer with its round, whatever its age; a price of zero means that there is none.
    /// Reverts `UnknownFeed`.
    function latestAnswer(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint64 round);

    /// @notice A feed's parameters, its group, and the age in seconds beyond which it is stale. Reverts `UnknownFeed`.
    function feedInfo(bytes32 id) external view returns (bytes32 group, FeedConfig memory config, uint256 staleAfter);

    /// @notice A group's state and configuration. Reverts `UnknownGroup`.
    function groupInfo(bytes32 group) external view returns (GroupInfo memory info);

    /// @notice Every feed of a group in one call, so that all of it is of one block. Reverts `UnknownGroup`.
    function readGroup(bytes32 group) external view returns (GroupReading memory reading);
}
