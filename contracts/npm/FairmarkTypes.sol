// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

/// @title What the Fairmark oracle's readers return
interface FairmarkTypes {
    /// @notice What a feed's answer is worth. A feed is stale when `block.timestamp - updatedAt` exceeds its
    /// `staleAfter`: its heartbeat, and above it the age up to which the round that renews it is still accepted.
    /// `Unset` is zero, so that a forgotten check reads as "no price". `Pending`: the standing answer is still fresh, but
    /// a median far from it waits to be confirmed.
    enum Status {
        Unset,
        Fresh,
        Stale,
        Halted,
        Unknown,
        Pending
    }

    /// @notice A feed's parameters.
    /// @param id the feed's name
    /// @param decimals the scale of its prices
    /// @param minContributors fewest reporters with a price for one to be accepted
    /// @param deviationBps movement that calls for a round before the heartbeat, in basis points
    /// @param heartbeat seconds within which a new answer is due
    /// @param limitBps breaker: a median further than this from the standing answer waits as a candidate; the limit grows
    /// with the square root of the time since, up to fourfold. Zero: no limit
    /// @param maxSpreadBps breaker: so does a median of prices that lie further apart. Zero: no limit
    struct FeedConfig {
        bytes32 id;
        uint8 decimals;
        uint8 minContributors;
        uint16 deviationBps;
        uint32 heartbeat;
        uint16 limitBps;
        uint16 maxSpreadBps;
    }

    /// @notice One feed in a `GroupReading`. `moment`: the exact time it was last written or attested, in milliseconds.
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

    /// @notice A report's part of a round's evidence.
    struct ReporterRoot {
        address reporter;
        bytes32 root;
    }

    /// @notice A group's state and configuration, as reporters should sign for it now: where a rotation's new set is due,
    /// version, hash, signers, f and threshold are the new set's, and `set` is 1.
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
        uint16 number;
        uint8 set;
    }
}
