// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IFairmarkOracle} from "./IFairmarkOracle.sol";

/// @title Fairmark: prices on chain that were checked, not trusted
/// @notice Anyone may relay a round that carries enough signed reports. For each feed the relayer names the report whose
/// price is the median, and the contract checks that by counting. Nobody between reporter and contract can change a price.
/// @dev Storage layout. Slots 0 and 1 are EIP712's, 2 and 3 Ownable2Step's.
///
/// ```
/// slot 4          guardian (160) | paused (8)
/// _groups[g]      + 0  Header: version (32) lastMoment (48) round (40) acceptedBlock (40) maxAgeMs (32)
///                      threshold (8) f (8) feedCount (16) signerCount (8)                              = 232 bits
///                 + 1  groupHash
///                 + 2  feeds[]     ids, in the order of a report's prices
///                 + 3  signers[]   ascending
/// _isSigner[h][a] whether `a` signs for the group version whose hash is `h`
/// _feeds[id]      + 0  Feed: value (64) observedAt (40) round (40) spreadBps (16) contributors (8)
///                      decimals (8) minContributors (8) deviationBps (16) heartbeat (32) grace (16)    = 248 bits
///                 + 1  group
/// _history[id][r] Point: value (64) observedAt (40) spreadBps (16) contributors (8)                    = 128 bits
/// _rounds[g][r]   Round: moment (48) acceptedBlock (40) acceptedAt (40)                                = 128 bits
/// ```
contract FairmarkOracle is IFairmarkOracle, EIP712, Ownable2Step {
    /// @notice One reporter's part of a submission: what it signed besides group, previous moment and moment.
    /// @param unchanged must be zero: attestation of unchanged answers is not taken yet
    /// @param evidenceRoot commits to the quotes behind the prices
    /// @param prices eight big-endian bytes a feed; zero means "none"
    /// @param r of the signature
    /// @param vs of the signature (EIP-2098)
    struct SignedReport {
        uint256 unchanged;
        bytes32 evidenceRoot;
        bytes prices;
        bytes32 r;
        bytes32 vs;
    }

    struct Header {
        uint32 version;
        uint48 lastMoment;
        uint40 round;
        uint40 acceptedBlock;
        uint32 maxAgeMs;
        uint8 threshold;
        uint8 f;
        uint16 feedCount;
        uint8 signerCount;
    }

    struct Group {
        Header header;
        bytes32 hash;
        bytes32[] feeds;
        address[] signers;
    }

    struct Feed {
        uint64 value;
        uint40 observedAt;
        uint40 round;
        uint16 spreadBps;
        uint8 contributors;
        uint8 decimals;
        uint8 minContributors;
        uint16 deviationBps;
        uint32 heartbeat;
        uint16 grace;
    }

    struct Entry {
        Feed feed;
        bytes32 group;
    }

    struct Point {
        uint64 value;
        uint40 observedAt;
        uint16 spreadBps;
        uint8 contributors;
    }

    struct Round {
        uint48 moment;
        uint40 acceptedBlock;
        uint40 acceptedAt;
    }

    /// @dev The prices for one feed over all reports: how many there are, and the rank of the relayer's candidate.
    struct Count {
        uint256 present;
        uint256 below;
        uint256 notAbove;
        uint256 lowest;
        uint256 highest;
    }

    /// @notice A round was accepted. `updated`: bit i is set where the group's feed i has a new answer.
    event RoundAccepted(
        bytes32 indexed group, uint64 indexed round, uint48 moment, uint256 updated, address relayer
    );
    /// @notice A group was configured; reports of earlier versions are void.
    event GroupConfigured(bytes32 indexed group, uint32 indexed version, bytes32 groupHash);
    /// @notice Rounds are refused and answers halted from now on.
    event Paused(address by);
    /// @notice Rounds are accepted again.
    event Unpaused(address by);
    /// @notice Another guardian may pause from now on.
    event GuardianSet(address guardian);

    /// @notice The oracle is paused: it takes no rounds.
    error OraclePaused();
    /// @notice Only the guardian or the owner may pause.
    error NotGuardian(address caller);
    /// @notice An oracle without an owner could never be unpaused.
    error OwnershipIsKept();
    /// @notice The reports follow another round than the group's last.
    error UnexpectedPreviousMoment(uint48 standing, uint48 given);
    /// @notice The moment is not later than the group's last.
    error MomentNotLater(uint48 standing, uint48 given);
    /// @notice The moment lies more than 30 s ahead of this block.
    error MomentInFuture(uint48 moment, uint256 nowMs);
    /// @notice The moment is older than the group allows.
    error StaleMoment(uint48 moment, uint256 nowMs);
    /// @notice Fewer reports than the group's threshold.
    error TooFewReports(uint256 given, uint256 threshold);
    /// @notice More reports than one-byte hints can name.
    error TooManyReports(uint256 given);
    /// @notice A report was signed by nobody of the current set: another key, or another digest.
    error UnknownSigner(uint256 report, address signer);
    /// @notice Reports must come in strictly ascending order of their signers, so that none counts twice.
    error SignersNotAscending(uint256 report, address previous, address signer);
    /// @notice Attestation of unchanged answers is not taken yet.
    error UnchangedNotSupported(uint256 report);
    /// @notice A report's prices are not eight bytes for each feed.
    error WrongPricesLength(uint256 report, uint256 given, uint256 expected);
    /// @notice The medians are not one byte for each feed.
    error WrongMediansLength(uint256 given, uint256 expected);
    /// @notice The hint for a feed names a report that is not there.
    error NoSuchReport(uint256 feed, uint256 report);
    /// @notice The hint for a feed names a report without a price for it.
    error MedianMissing(uint256 feed, uint256 report);
    /// @notice The hint for a feed names a report whose price is not the lower median.
    error NotTheMedian(uint256 feed, uint256 report);
    /// @notice A feed with enough contributors may not be left alone.
    error FeedLeftOut(uint256 feed, uint256 contributors);
    /// @notice No feed has enough contributors: the round would change nothing.
    error NothingAccepted();
    /// @notice A configuration is refused. `reason` is a word of the rule that it breaks.
    error BadGroup(bytes32 group, string reason);
    /// @notice A feed's configuration is refused. `reason` is a word of the rule that it breaks.
    error BadFeed(bytes32 id, string reason);

    /// @notice What a reporter signs, in the domain {name, version, chainId, verifyingContract}.
    bytes32 public constant REPORT_TYPEHASH = keccak256(
        "Report(bytes32 groupHash,uint48 previousMoment,uint48 moment,uint256 unchanged,bytes32 evidenceRoot,bytes prices)"
    );
    /// @notice How far a moment may lie ahead of the block, in milliseconds.
    uint256 public constant MAX_AHEAD_MS = 30_000;
    /// @notice The hint that leaves a feed alone.
    uint8 public constant NO_MEDIAN = 255;
    /// @notice Most feeds of a group.
    uint256 public constant MAX_FEEDS = 256;
    /// @notice Most signers of a group.
    uint256 public constant MAX_SIGNERS = 255;
    /// @notice Longest `maxAgeMs` of a group: one hour.
    uint32 public constant MAX_MAX_AGE_MS = 3_600_000;

    /// @notice Whether the prices here are simulated. Such an oracle's domain has another name, so that no report can
    /// pass from one kind to the other.
    bool public immutable testMode;

    /// @notice May pause, and nothing else.
    address public guardian;
    /// @notice Whether rounds are refused and answers halted.
    bool public paused;

    mapping(bytes32 group => Group) private _groups;
    mapping(bytes32 groupHash => mapping(address signer => bool)) private _isSigner;
    mapping(bytes32 id => Entry) private _feeds;
    mapping(bytes32 id => mapping(uint64 round => Point)) private _history;
    mapping(bytes32 group => mapping(uint64 round => Round)) private _rounds;

    /// @param testMode_ whether prices are simulated
    /// @param owner_ configures groups; passes ownership on in two steps
    /// @param guardian_ may pause
    constructor(bool testMode_, address owner_, address guardian_)
        EIP712(testMode_ ? "Fairmark test" : "Fairmark", "1")
        Ownable(owner_)
    {
        testMode = testMode_;
        guardian = guardian_;
        emit GuardianSet(guardian_);
    }

    // ------------------------------------------------------------------------------------------------ rounds

    /// @notice Submit a round. Anyone may.
    /// @param group the group's name
    /// @param previousMoment the group's last moment, in milliseconds; zero before the first round
    /// @param moment the time that the reports speak for, in milliseconds
    /// @param reports strictly ascending by signer
    /// @param medians for each feed, the index of the report whose price is the lower median; 255 leaves alone a feed that
    /// has fewer prices than its minimum
    function submit(
        bytes32 group,
        uint48 previousMoment,
        uint48 moment,
        SignedReport[] calldata reports,
        bytes calldata medians
    ) external {
        if (paused) revert OraclePaused();
        Header memory header = _groups[group].header;
        _checkMoment(group, header, previousMoment, moment);
        if (medians.length != header.feedCount) revert WrongMediansLength(medians.length, header.feedCount);
        _checkReports(_groups[group].hash, header, previousMoment, moment, reports);

        uint64 round = ++header.round;
        header.lastMoment = moment;
        header.acceptedBlock = uint40(block.number);
        _groups[group].header = header;
        _rounds[group][round] = Round(moment, uint40(block.number), uint40(block.timestamp));

        uint256 updated = _accept(group, round, _observedAt(moment), reports, medians);
        if (updated == 0) revert NothingAccepted();
        emit RoundAccepted(group, round, moment, updated, msg.sender);
    }

    function _checkMoment(bytes32 group, Header memory header, uint48 previousMoment, uint48 moment) private view {
        if (header.version == 0) revert UnknownGroup(group);
        if (previousMoment != header.lastMoment) revert UnexpectedPreviousMoment(header.lastMoment, previousMoment);
        if (moment <= header.lastMoment) revert MomentNotLater(header.lastMoment, moment);
        uint256 nowMs = block.timestamp * 1000;
        if (moment > nowMs + MAX_AHEAD_MS) revert MomentInFuture(moment, nowMs);
        if (uint256(moment) + header.maxAgeMs < nowMs) revert StaleMoment(moment, nowMs);
    }

    function _checkReports(
        bytes32 groupHash,
        Header memory header,
        uint48 previousMoment,
        uint48 moment,
        SignedReport[] calldata reports
    ) private view {
        if (reports.length < header.threshold) revert TooFewReports(reports.length, header.threshold);
        if (reports.length > MAX_SIGNERS) revert TooManyReports(reports.length);
        uint256 pricesLength = uint256(header.feedCount) * 8;
        address previous = address(0);
        for (uint256 k = 0; k < reports.length; ++k) {
            SignedReport calldata report = reports[k];
            if (report.unchanged != 0) revert UnchangedNotSupported(k);
            if (report.prices.length != pricesLength) {
                revert WrongPricesLength(k, report.prices.length, pricesLength);
            }
            bytes32 structHash = keccak256(
                abi.encode(
                    REPORT_TYPEHASH,
                    groupHash,
                    previousMoment,
                    moment,
                    report.unchanged,
                    report.evidenceRoot,
                    keccak256(report.prices)
                )
            );
            address signer = ECDSA.recover(_hashTypedDataV4(structHash), report.r, report.vs);
            if (!_isSigner[groupHash][signer]) revert UnknownSigner(k, signer);
            if (signer <= previous) revert SignersNotAscending(k, previous, signer);
            previous = signer;
        }
    }

    /// @dev Takes each feed's median, where it has one. Returns the bitmap of the feeds that were written.
    function _accept(
        bytes32 group,
        uint64 round,
        uint40 observedAt,
        SignedReport[] calldata reports,
        bytes calldata medians
    ) private returns (uint256 updated) {
        bytes32[] storage ids = _groups[group].feeds;
        for (uint256 i = 0; i < medians.length; ++i) {
            uint256 hint = uint8(medians[i]);
            uint256 candidate = hint == NO_MEDIAN ? 0 : _named(reports, hint, i);
            Count memory count = _count(reports, i, candidate);
            bytes32 id = ids[i];
            Feed memory feed = _feeds[id].feed;
            if (count.present < feed.minContributors) continue;
            if (hint == NO_MEDIAN) revert FeedLeftOut(i, count.present);
            uint256 rank = (count.present - 1) / 2;
            if (count.below > rank || rank >= count.notAbove) revert NotTheMedian(i, hint);

            uint256 spread = (count.highest - count.lowest) * 10_000 / candidate;
            feed.value = uint64(candidate);
            feed.observedAt = observedAt;
            feed.round = uint40(round);
            feed.spreadBps = spread > type(uint16).max ? type(uint16).max : uint16(spread);
            feed.contributors = uint8(count.present);
            _feeds[id].feed = feed;
            _history[id][round] = Point(feed.value, observedAt, feed.spreadBps, feed.contributors);
            updated |= 1 << i;
        }
    }

    /// @dev The price that the relayer calls feed `i`'s median.
    function _named(SignedReport[] calldata reports, uint256 hint, uint256 i) private pure returns (uint256 candidate) {
        if (hint >= reports.length) revert NoSuchReport(i, hint);
        candidate = _price(reports[hint].prices, i);
        if (candidate == 0) revert MedianMissing(i, hint);
    }

    /// @dev One pass over the reports' prices for feed `i`.
    function _count(SignedReport[] calldata reports, uint256 i, uint256 candidate)
        private
        pure
        returns (Count memory count)
    {
        count.lowest = type(uint256).max;
        for (uint256 k = 0; k < reports.length; ++k) {
            uint256 price = _price(reports[k].prices, i);
            if (price == 0) continue;
            unchecked {
                ++count.present;
                if (price < candidate) ++count.below;
                if (price <= candidate) ++count.notAbove;
            }
            if (price < count.lowest) count.lowest = price;
            if (price > count.highest) count.highest = price;
        }
    }

    function _price(bytes calldata prices, uint256 i) private pure returns (uint256) {
        return uint64(bytes8(prices[8 * i:8 * i + 8]));
    }

    /// @dev A moment in seconds, never later than the block: a moment may lie ahead of it.
    function _observedAt(uint48 moment) private view returns (uint40) {
        uint256 seconds_ = moment / 1000;
        return uint40(seconds_ < block.timestamp ? seconds_ : block.timestamp);
    }

    // ------------------------------------------------------------------------------------------------ reading

    /// @inheritdoc IFairmarkOracle
    function getPrice(bytes32 id) external view returns (uint256 price, uint256 updatedAt) {
        Feed memory feed = _answered(id);
        if (_isStale(feed)) revert StaleFeed(id, feed.observedAt, _staleAfter(feed));
        return (feed.value, feed.observedAt);
    }

    /// @inheritdoc IFairmarkOracle
    function tryGetPrice(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors)
    {
        Feed memory feed = _feeds[id].feed;
        return (_status(feed), feed.value, feed.observedAt, feed.spreadBps, feed.contributors);
    }

    /// @inheritdoc IFairmarkOracle
    function getPriceNoOlderThan(bytes32 id, uint256 maxAge) external view returns (uint256 price, uint256 updatedAt) {
        Feed memory feed = _answered(id);
        if (block.timestamp - feed.observedAt > maxAge) revert TooOld(id, feed.observedAt, maxAge);
        return (feed.value, feed.observedAt);
    }

    /// @inheritdoc IFairmarkOracle
    function getRoundData(bytes32 id, uint64 round)
        external
        view
        returns (uint256 price, uint256 updatedAt, uint16 spreadBps, uint8 contributors)
    {
        if (_feeds[id].feed.heartbeat == 0) revert UnknownFeed(id);
        Point memory point = _history[id][round];
        if (point.value == 0) revert NoAnswer(id, round);
        return (point.value, point.observedAt, point.spreadBps, point.contributors);
    }

    /// @inheritdoc IFairmarkOracle
    function latestAnswer(bytes32 id)
        external
        view
        returns (Status status, uint256 price, uint256 updatedAt, uint64 round)
    {
        Feed memory feed = _known(id);
        return (_status(feed), feed.value, feed.observedAt, feed.round);
    }

    /// @inheritdoc IFairmarkOracle
    function feedInfo(bytes32 id)
        external
        view
        returns (bytes32 group, FeedConfig memory config, uint256 staleAfter)
    {
        Feed memory feed = _known(id);
        return (_feeds[id].group, _config(id, feed), _staleAfter(feed));
    }

    /// @inheritdoc IFairmarkOracle
    function groupInfo(bytes32 group) external view returns (GroupInfo memory info) {
        Group storage stored = _groups[group];
        Header memory header = stored.header;
        if (header.version == 0) revert UnknownGroup(group);
        info.group = group;
        info.version = header.version;
        info.groupHash = stored.hash;
        info.round = header.round;
        info.lastMoment = header.lastMoment;
        info.acceptedBlock = header.acceptedBlock;
        info.threshold = header.threshold;
        info.f = header.f;
        info.maxAgeMs = header.maxAgeMs;
        info.paused = paused;
        info.blockTimestamp = block.timestamp;
        info.signers = stored.signers;
        info.feeds = new FeedConfig[](header.feedCount);
        for (uint256 i = 0; i < header.feedCount; ++i) {
            bytes32 id = stored.feeds[i];
            info.feeds[i] = _config(id, _feeds[id].feed);
        }
    }

    /// @inheritdoc IFairmarkOracle
    function readGroup(bytes32 group) external view returns (GroupReading memory reading) {
        Group storage stored = _groups[group];
        Header memory header = stored.header;
        if (header.version == 0) revert UnknownGroup(group);
        reading.groupHash = stored.hash;
        reading.version = header.version;
        reading.round = header.round;
        reading.moment = header.lastMoment;
        reading.acceptedBlock = header.acceptedBlock;
        reading.paused = paused;
        reading.blockTimestamp = block.timestamp;
        reading.feeds = new FeedReading[](header.feedCount);
        for (uint256 i = 0; i < header.feedCount; ++i) {
            bytes32 id = stored.feeds[i];
            Feed memory feed = _feeds[id].feed;
            FeedReading memory one = reading.feeds[i];
            one.id = id;
            one.decimals = feed.decimals;
            one.status = _status(feed);
            one.heartbeat = feed.heartbeat;
            one.staleAfter = uint32(_staleAfter(feed));
            one.price = feed.value;
            one.round = feed.round;
            one.moment = _rounds[group][feed.round].moment;
            one.updatedAt = feed.observedAt;
            one.spreadBps = feed.spreadBps;
            one.contributors = feed.contributors;
        }
    }

    /// @notice A round's exact moment (milliseconds), the block that accepted it, and that block's time (seconds).
    /// All zero where there is no such round.
    function roundInfo(bytes32 group, uint64 round)
        external
        view
        returns (uint48 moment, uint64 acceptedBlock, uint64 acceptedAt)
    {
        Round memory header = _rounds[group][round];
        return (header.moment, header.acceptedBlock, header.acceptedAt);
    }

    function _known(bytes32 id) private view returns (Feed memory feed) {
        feed = _feeds[id].feed;
        if (feed.heartbeat == 0) revert UnknownFeed(id);
    }

    /// @dev A feed with an answer that may be used, whatever its age.
    function _answered(bytes32 id) private view returns (Feed memory feed) {
        feed = _known(id);
        if (feed.value == 0) revert UnsetFeed(id);
        if (paused) revert FeedHalted(id);
    }

    function _status(Feed memory feed) private view returns (Status) {
        if (feed.heartbeat == 0) return Status.Unknown;
        if (feed.value == 0) return Status.Unset;
        if (paused) return Status.Halted;
        return _isStale(feed) ? Status.Stale : Status.Fresh;
    }

    function _isStale(Feed memory feed) private view returns (bool) {
        return block.timestamp - feed.observedAt > _staleAfter(feed);
    }

    function _staleAfter(Feed memory feed) private pure returns (uint256) {
        return uint256(feed.heartbeat) + feed.grace;
    }

    function _config(bytes32 id, Feed memory feed) private pure returns (FeedConfig memory) {
        return FeedConfig(id, feed.decimals, feed.minContributors, feed.deviationBps, feed.heartbeat);
    }

    // ------------------------------------------------------------------------------------------------ governance

    /// @notice Configure a group, or configure it anew. Every call makes a new version and a new group hash, so that
    /// reports signed for an earlier one are void.
    /// @param group the group's name
    /// @param feeds in the order of a report's prices. A group's feeds keep their places and their decimals for ever;
    /// new ones are appended
    /// @param signers strictly ascending, n >= 3f + 1
    /// @param f how many signers may lie or be silent
    /// @param threshold reports that a round needs, from 2f + 1 to n
    /// @param maxAgeMs how old a moment may be when its round arrives, in milliseconds
    function configureGroup(
        bytes32 group,
        FeedConfig[] calldata feeds,
        address[] calldata signers,
        uint8 f,
        uint8 threshold,
        uint32 maxAgeMs
    ) external onlyOwner {
        if (group == 0) revert BadGroup(group, "name");
        if (maxAgeMs == 0 || maxAgeMs > MAX_MAX_AGE_MS) revert BadGroup(group, "maxAge");
        if (signers.length > MAX_SIGNERS || signers.length < 3 * uint256(f) + 1) revert BadGroup(group, "signers");
        if (threshold > signers.length || threshold < 2 * uint256(f) + 1) revert BadGroup(group, "threshold");

        Group storage stored = _groups[group];
        Header memory header = stored.header;
        header.version += 1;
        header.maxAgeMs = maxAgeMs;
        header.threshold = threshold;
        header.f = f;
        header.feedCount = uint16(_configureFeeds(group, feeds, signers.length, f, maxAgeMs));
        header.signerCount = uint8(signers.length);
        stored.header = header;

        bytes32 groupHash = keccak256(abi.encode(group, header.version, signers, f, threshold, maxAgeMs, feeds));
        stored.hash = groupHash;
        stored.signers = signers;
        address previous = address(0);
        for (uint256 i = 0; i < signers.length; ++i) {
            // ascending from zero: no signer is zero, and none is there twice
            if (signers[i] <= previous) revert BadGroup(group, "signer order");
            previous = signers[i];
            _isSigner[groupHash][previous] = true;
        }
        emit GroupConfigured(group, header.version, groupHash);
    }

    function _configureFeeds(bytes32 group, FeedConfig[] calldata feeds, uint256 n, uint8 f, uint32 maxAgeMs)
        private
        returns (uint256 count)
    {
        bytes32[] storage ids = _groups[group].feeds;
        uint256 standing = ids.length;
        if (feeds.length == 0 || feeds.length > MAX_FEEDS || feeds.length < standing) revert BadGroup(group, "feeds");
        for (uint256 i = 0; i < feeds.length; ++i) {
            FeedConfig calldata config = feeds[i];
            Entry storage entry = _feeds[config.id];
            Feed memory feed = entry.feed;
            if (i < standing) {
                if (ids[i] != config.id) revert BadFeed(config.id, "place");
                if (feed.decimals != config.decimals) revert BadFeed(config.id, "decimals");
            } else {
                if (config.id == 0) revert BadFeed(config.id, "name");
                if (entry.group != 0) revert BadFeed(config.id, "taken");
                ids.push(config.id);
                entry.group = group;
            }
            if (config.minContributors > n || config.minContributors < 2 * uint256(f) + 1) {
                revert BadFeed(config.id, "minContributors");
            }
            if (config.heartbeat == 0 || config.heartbeat > 365 days) revert BadFeed(config.id, "heartbeat");
            feed.decimals = config.decimals;
            feed.minContributors = config.minContributors;
            feed.deviationBps = config.deviationBps;
            feed.heartbeat = config.heartbeat;
            feed.grace = uint16((uint256(maxAgeMs) + 999) / 1000);
            entry.feed = feed;
        }
        return feeds.length;
    }

    /// @notice Refuse rounds and halt answers. The guardian or the owner may.
    function pause() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardian(msg.sender);
        paused = true;
        emit Paused(msg.sender);
    }

    /// @notice Accept rounds again. The owner may.
    function unpause() external onlyOwner {
        paused = false;
        emit Unpaused(msg.sender);
    }

    /// @notice Name another guardian; zero for none. The owner may.
    function setGuardian(address guardian_) external onlyOwner {
        guardian = guardian_;
        emit GuardianSet(guardian_);
    }

    /// @notice Always reverts: an oracle without an owner could never be unpaused.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipIsKept();
    }
}
