// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {FairmarkOverviews} from "./FairmarkOverviews.sol";
import {FairmarkSets} from "./FairmarkSets.sol";
import {FairmarkState} from "./FairmarkState.sol";

/// @title Who may change what
/// @notice The owner sets groups up, names the others, and ends what they halted. `feedsManager` sets feeds' parameters
/// and appends feeds. `signersManager` rotates the signers, with a delay, and revokes one at once. The guardian may pause
/// and halt, and nothing else. Nobody can set a price.
/// @dev The second half of the oracle's code: one contract could not hold all of it (EIP-170). The oracle creates it and
/// runs its functions by delegatecall, so that it works on the oracle's storage; called by itself it owns nothing. Neither
/// half can be exchanged.
contract FairmarkGovernance is FairmarkState, FairmarkSets, FairmarkOverviews {
    /// @notice A group was configured; reports of earlier versions are void.
    /// @param group the group's name
    /// @param version of its configuration
    /// @param groupHash that its reports carry
    event GroupConfigured(bytes32 indexed group, uint32 indexed version, bytes32 groupHash);
    /// @notice A new set of signers counts from `from` on; the old one until the new one's first round after `until`.
    /// @param group the group's name
    /// @param version of its configuration
    /// @param groupHash that its reports carry
    /// @param from seconds
    /// @param until seconds
    event RotationStarted(bytes32 indexed group, uint32 indexed version, bytes32 groupHash, uint256 from, uint256 until);
    /// @notice The new set of a rotation is dropped: the old one stays.
    /// @param group the group's name
    event RotationCancelled(bytes32 indexed group);
    /// @notice A signer counts no more. `halted`: too few are left.
    /// @param group the group's name
    /// @param signer whose key it was
    /// @param halted whether too few are left
    event SignerRevoked(bytes32 indexed group, address indexed signer, bool halted);
    /// @notice A feed stands in the registry as configured here from now on.
    /// @param group the group's name
    /// @param id the feed's name
    /// @param index its place in the group
    /// @param config its parameters
    event FeedConfigured(bytes32 indexed group, bytes32 indexed id, uint256 index, FeedConfig config);
    /// @notice What people call the feed.
    /// @param id the feed's name
    /// @param description for people
    event FeedDescribed(bytes32 indexed id, string description);
    /// @notice Rounds are refused and answers halted from now on.
    /// @param by guardian or owner
    event Paused(address by);
    /// @notice Rounds are accepted again.
    /// @param by the owner
    event Unpaused(address by);
    /// @notice One feed's answers are halted, or are so no more.
    /// @param id the feed's name
    /// @param halted whether its answers are not to be used
    /// @param by guardian or owner
    event FeedHaltSet(bytes32 indexed id, bool halted, address by);
    /// @notice Others may configure feeds and rotate signers from now on.
    /// @param feedsManager may configure feeds; zero: nobody but the owner
    /// @param signersManager may rotate and revoke signers; zero: nobody but the owner
    event ManagersSet(address feedsManager, address signersManager);
    /// @notice The owner decided on a candidate.
    /// @param id the feed's name
    /// @param confirmed whether it became the answer
    /// @param value scaled by the feed's decimals
    /// @param round in which it came to wait
    event CandidateResolved(bytes32 indexed id, bool confirmed, uint256 value, uint64 round);

    /// @notice What a reporter signs, in the domain {name, version, chainId, verifyingContract}.
    bytes32 public constant REPORT_TYPEHASH = REPORT_TYPE;
    /// @notice How far a moment may lie ahead of the block, in milliseconds.
    uint256 public constant MAX_AHEAD_MS = AHEAD_MS;
    /// @notice How much later than a candidate the median must be that confirms it, in milliseconds.
    uint256 public constant CONFIRM_DELAY_MS = CONFIRM_MS;
    /// @notice Most feeds of a group.
    uint256 public constant MAX_FEEDS = 256;
    /// @notice Most signers of a group.
    uint256 public constant MAX_SIGNERS = 255;
    /// @notice Most groups.
    uint256 public constant MAX_GROUPS = 255;
    /// @notice Longest `maxAgeMs` of a group: one hour.
    uint32 public constant MAX_MAX_AGE_MS = 3_600_000;
    /// @notice How long a rotation is announced before the new set counts.
    uint256 public constant ROTATION_DELAY = 1 days;
    /// @notice How long the old set counts beside the new one, at least.
    uint256 public constant ROTATION_OVERLAP = 1 hours;

    /// @dev Its own storage is never used.
    constructor() Ownable(address(1)) {}

    /// @notice Name the first owner and guardian. The oracle does, when it is made; nobody can again, for there is always an
    /// owner from then on.
    /// @param owner_ not zero
    /// @param guardian_ zero for none
    function initialize(address owner_, address guardian_) external {
        if (owner() != address(0)) revert NotAllowed(msg.sender);
        if (owner_ == address(0)) revert OwnableInvalidOwner(owner_);
        _transferOwnership(owner_);
        guardian = guardian_;
        emit GuardianSet(guardian_);
    }

    modifier onlyManager(address manager) {
        if (msg.sender != manager && msg.sender != owner()) revert NotAllowed(msg.sender);
        _;
    }

    // ------------------------------------------------------------------------------------------------ groups

    /// @notice Configure a group, or configure it anew, at once. Every call makes a new version and a new group hash, so
    /// that reports signed for an earlier one are void. Once a group has made a round its signers, f and threshold change
    /// by `rotate` only, unless revocations left it too few.
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
        uint256 number = _numbers[group];
        if (number == 0) {
            number = ++groupCount;
            if (number > MAX_GROUPS) revert BadGroup(group, "groups");
            _numbers[group] = number;
        }
        Set memory set = Set(group, number, 0, signers, f, threshold, maxAgeMs);
        uint256 header = _sload(_headerAt(number));
        if (header & ROTATING != 0) revert RotationUnderWay(group);
        if (_round(header) != 0 && header & TOO_FEW == 0) {
            address blob = address(uint160(header >> 96));
            uint256 facts = _facts(blob);
            bool same = uint8(facts >> 168) == threshold && uint8(facts >> 160) == f
                && keccak256(abi.encode(_signersIn(blob, facts))) == keccak256(abi.encode(signers));
            if (!same) revert BadGroup(group, "rotate");
        }
        _checkSet(set);
        _replace(set, feeds, header);
    }

    /// @notice Set the parameters of a group's feeds, or append feeds, at once. The feeds' manager or the owner may.
    /// @param group the group's name
    /// @param feeds all of the group's, in order; new ones after them
    function setFeeds(bytes32 group, FeedConfig[] calldata feeds) external onlyManager(feedsManager) {
        (Set memory set, uint256 header) = _standingSet(group);
        if (header & ROTATING != 0) revert RotationUnderWay(group);
        // only the owner ends the halt of a group that has too few signers, by naming others
        if (header & TOO_FEW != 0) revert BadGroup(group, "signers");
        _replace(set, feeds, header);
    }

    /// @notice What people call the feed. The feeds' manager or the owner may.
    /// @param id the feed's name
    /// @param description for people; empty to take it back
    function describeFeed(bytes32 id, string calldata description) external onlyManager(feedsManager) {
        _known(id);
        _descriptions[id] = description;
        emit FeedDescribed(id, description);
    }

    /// @dev Another version of the group, with these feeds, from now on.
    function _replace(Set memory set, FeedConfig[] memory feeds, uint256 header) private {
        _configureFeeds(set, feeds, header);
        (address blob, bytes32 groupHash) = _write(set, feeds);
        header = (header & (2 ** 96 - 1)) | (uint256(uint160(blob)) << 96);
        header &= ~TOO_FEW;
        if (paused) header |= PAUSED;
        _sstore(_headerAt(set.number), header);
        _showHalt(set.number, feeds.length, header & HALTED != 0);
        emit GroupConfigured(set.group, set.version, groupHash);
    }

    function _checkSet(Set memory set) private pure {
        uint256 n = set.signers.length;
        if (n > MAX_SIGNERS || n < 3 * uint256(set.f) + 1) revert BadGroup(set.group, "signers");
        if (set.threshold > n || set.threshold < 2 * uint256(set.f) + 1) revert BadGroup(set.group, "threshold");
        address previous = address(0);
        for (uint256 i = 0; i < n; ++i) {
            // ascending from zero: no signer is zero, and none is there twice
            if (set.signers[i] <= previous) revert BadGroup(set.group, "signer order");
            previous = set.signers[i];
        }
    }

    function _configureFeeds(Set memory set, FeedConfig[] memory feeds, uint256 header) private {
        bytes32[] memory standing = new bytes32[](0);
        address blob = address(uint160(header >> 96));
        if (blob != address(0)) standing = _idsIn(blob, _facts(blob));
        if (feeds.length == 0 || feeds.length > MAX_FEEDS || feeds.length < standing.length) {
            revert BadGroup(set.group, "feeds");
        }
        for (uint256 i = 0; i < feeds.length; ++i) {
            FeedConfig memory config = feeds[i];
            uint256 place = _places[config.id];
            if (i < standing.length) {
                if (standing[i] != config.id) revert BadFeed(config.id, "place");
                if (_decimals(place) != config.decimals) revert BadFeed(config.id, "decimals");
            } else {
                if (config.id == 0) revert BadFeed(config.id, "name");
                if (place != 0) revert BadFeed(config.id, "taken");
            }
            _checkMinimum(set, config);
            if (config.heartbeat == 0 || config.heartbeat > 365 days) revert BadFeed(config.id, "heartbeat");
            uint256 now_ = (set.number << 240) | (i << 232) | (uint256(config.decimals) << 224)
                | (uint256(config.minContributors) << 216) | (uint256(config.deviationBps) << 200)
                | (uint256(config.limitBps) << 184) | (uint256(config.maxSpreadBps) << 168)
                | (uint256(config.heartbeat) << 136) | (((uint256(set.maxAgeMs) + 999) / 1000) << 120);
            if (now_ != place) {
                _places[config.id] = now_;
                emit FeedConfigured(set.group, config.id, i, config);
            }
        }
    }

    function _checkMinimum(Set memory set, FeedConfig memory config) private pure {
        if (config.minContributors > set.signers.length || config.minContributors < 2 * uint256(set.f) + 1) {
            revert BadFeed(config.id, "minContributors");
        }
    }

    // ------------------------------------------------------------------------------------------------ signers

    /// @notice Rotate a group's signers. The new set counts after `ROTATION_DELAY`; the old one goes on counting until the
    /// new one makes a round at least `ROTATION_OVERLAP` later, so that no rotation can take a group down. All reports of a
    /// round are of one set. The signers' manager or the owner may.
    /// @param group the group's name
    /// @param signers strictly ascending, n >= 3f + 1
    /// @param f how many signers may lie or be silent
    /// @param threshold reports that a round needs, from 2f + 1 to n
    function rotate(bytes32 group, address[] calldata signers, uint8 f, uint8 threshold)
        external
        onlyManager(signersManager)
    {
        (Set memory set, uint256 header) = _standingSet(group);
        if (header & ROTATING != 0) revert RotationUnderWay(group);
        FeedConfig[] memory feeds = _feedsOf(header);
        (set.signers, set.f, set.threshold) = (signers, f, threshold);
        _checkSet(set);
        for (uint256 i = 0; i < feeds.length; ++i) {
            _checkMinimum(set, feeds[i]);
        }
        (address blob, bytes32 groupHash) = _write(set, feeds);
        uint256 from = block.timestamp + ROTATION_DELAY;
        uint256 until = from + ROTATION_OVERLAP;
        _sstore(_headerAt(set.number) + 3, (uint256(uint160(blob)) << 96) | (from << 48) | until);
        _sstore(_headerAt(set.number), header | ROTATING);
        emit RotationStarted(group, set.version, groupHash, from, until);
    }

    /// @notice Drop the new set of a rotation. The signers' manager or the owner may.
    /// @param group the group's name
    function cancelRotation(bytes32 group) external onlyManager(signersManager) {
        (Set memory set, uint256 header) = _standingSet(group);
        if (header & ROTATING == 0) revert NoRotationDue(group);
        _cancel(set, header);
    }

    /// @notice End the old set's time by hand, once a rotation's overlap is over. The signers' manager or the owner may.
    /// @param group the group's name
    function concludeRotation(bytes32 group) external onlyManager(signersManager) {
        (Set memory set, uint256 header) = _standingSet(group);
        uint256 rotation = _sload(_headerAt(set.number) + 3);
        if (header & ROTATING == 0 || block.timestamp < rotation & 0xffffffffffff) revert NoRotationDue(group);
        _sstore(_headerAt(set.number) + 3, 0);
        _sstore(_headerAt(set.number), ((header & (2 ** 96 - 1)) | (rotation >> 96 << 96)) & ~ROTATING);
        uint256 facts = _facts(address(uint160(rotation >> 96)));
        bytes32 groupHash = bytes32(_blobBytes(address(uint160(rotation >> 96)), 0, 32));
        emit RotationConcluded(set.number);
        emit GroupConfigured(group, uint32(facts >> 208), groupHash);
    }

    /// @notice Revoke a signer's key at once. A rotation under way is dropped. A group left with too few signers halts
    /// until the owner configures it anew. The signers' manager or the owner may.
    /// @param group the group's name
    /// @param signer one of the standing set
    function revoke(bytes32 group, address signer) external onlyManager(signersManager) {
        (Set memory set, uint256 header) = _standingSet(group);
        if (header & ROTATING != 0) header = _cancel(set, header);
        FeedConfig[] memory feeds = _feedsOf(header);
        uint256 n = set.signers.length;
        address[] memory kept = new address[](n);
        uint256 count = 0;
        for (uint256 i = 0; i < n; ++i) {
            if (set.signers[i] != signer) kept[count++] = set.signers[i];
        }
        if (count == n) revert BadGroup(group, "no such signer");
        assembly ("memory-safe") {
            mstore(kept, count)
        }
        set.signers = kept;
        bool few = count < 3 * uint256(set.f) + 1 || count < set.threshold;
        for (uint256 i = 0; i < feeds.length; ++i) {
            few = few || feeds[i].minContributors > count;
        }
        (address blob, bytes32 groupHash) = _write(set, feeds);
        header = (header & (2 ** 96 - 1)) | (uint256(uint160(blob)) << 96);
        if (few) header |= TOO_FEW;
        _sstore(_headerAt(set.number), header);
        _showHalt(set.number, feeds.length, header & HALTED != 0);
        emit SignerRevoked(group, signer, few);
        emit GroupConfigured(group, set.version, groupHash);
    }

    function _cancel(Set memory set, uint256 header) private returns (uint256) {
        header &= ~ROTATING;
        _sstore(_headerAt(set.number) + 3, 0);
        _sstore(_headerAt(set.number), header);
        emit RotationCancelled(set.group);
        return header;
    }

    // ------------------------------------------------------------------------------------------------ halting

    /// @notice Refuse rounds and halt answers. The guardian or the owner may.
    function pause() external {
        if (msg.sender != guardian && msg.sender != owner()) revert NotGuardian(msg.sender);
        paused = true;
        _pauseGroups();
        emit Paused(msg.sender);
    }

    /// @notice Accept rounds again. The owner may.
    function unpause() external onlyOwner {
        paused = false;
        _pauseGroups();
        emit Unpaused(msg.sender);
    }

    /// @notice Halt one feed's answers; the guardian or the owner may. Rounds go on writing it. Only the owner may end it.
    /// @param id the feed's name
    /// @param halted whether its answers are not to be used
    function haltFeed(bytes32 id, bool halted) external {
        if (msg.sender != owner() && (msg.sender != guardian || !halted)) revert NotGuardian(msg.sender);
        uint256 place = _known(id);
        uint256 index = (place >> 232) & 0xff;
        uint256 spot = _positionsAt(place >> 240, index);
        uint256 bit = 0x40 << ((index & 31) << 3);
        _sstore(spot, halted ? _sload(spot) | bit : _sload(spot) & ~bit);
        emit FeedHaltSet(id, halted, msg.sender);
    }

    function _pauseGroups() private {
        for (uint256 number = 1; number <= groupCount; ++number) {
            uint256 header = _sload(_headerAt(number));
            header = paused ? header | PAUSED : header & ~PAUSED;
            _sstore(_headerAt(number), header);
            uint256 count = ((_facts(address(uint160(header >> 96))) >> 144) & 0xff) + 1;
            _showHalt(number, count, header & HALTED != 0);
        }
    }

    /// @dev Shows a group's halt where readers look anyway: in the positions.
    function _showHalt(uint256 number, uint256 count, bool halted) private {
        uint256 bits = 0x8080808080808080808080808080808080808080808080808080808080808080;
        for (uint256 i = 0; i < count; i += 32) {
            uint256 spot = _positionsAt(number, i);
            _sstore(spot, halted ? _sload(spot) | bits : _sload(spot) & ~bits);
        }
    }

    // ------------------------------------------------------------------------------------------------ candidates

    /// @notice Confirm the candidate that waits for a feed, or discard it. The owner may. `value` is what the owner saw.
    /// @param id the feed's name
    /// @param value the candidate's; another one is not decided on
    /// @param confirm whether it becomes the answer; else it is discarded
    function resolveCandidate(bytes32 id, uint256 value, bool confirm) external onlyOwner {
        uint256 place = _known(id);
        if (!_waits(place)) revert NoCandidate(id);
        uint256 number = place >> 240;
        uint256 index = (place >> 232) & 0xff;
        uint256 word = _sload(CANDIDATES + (number << 8) + index);
        if (_value(word) != value) revert NoCandidate(id);
        uint256 pending = _sload(_headerAt(number) + 2) & ~(1 << index);
        _sstore(_headerAt(number) + 2, pending);
        if (pending == 0) _sstore(_headerAt(number), _sload(_headerAt(number)) & ~ANY_PENDING);
        if (confirm) {
            (uint256 position, uint256 standing) = _standing(place);
            position = standing == 0 ? position & 63 : (position + 1) & 63;
            _sstore(_feedAt(number, index) + position, _following(standing, word | CONFIRMED));
            uint256 spot = _positionsAt(number, index);
            uint256 shift = (index & 31) << 3;
            _sstore(spot, (_sload(spot) & ~(63 << shift)) | (position << shift));
        }
        emit CandidateResolved(id, confirm, value, uint64(_roundOf(word)));
    }

    // ------------------------------------------------------------------------------------------------ roles

    /// @notice Name another guardian; zero for none. The owner may.
    /// @param guardian_ zero for none
    function setGuardian(address guardian_) external onlyOwner {
        guardian = guardian_;
        emit GuardianSet(guardian_);
    }

    /// @notice Name who configures feeds and who rotates signers; zero for none but the owner. The owner may.
    /// @param feedsManager_ zero for none
    /// @param signersManager_ zero for none
    function setManagers(address feedsManager_, address signersManager_) external onlyOwner {
        feedsManager = feedsManager_;
        signersManager = signersManager_;
        emit ManagersSet(feedsManager_, signersManager_);
    }

    /// @notice Always reverts: an oracle without an owner could never be unpaused.
    function renounceOwnership() public view override onlyOwner {
        revert OwnershipIsKept();
    }
}
