// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.4;

/// @title Every reason for which the Fairmark oracle reverts
interface FairmarkErrors {
    // ------------------------------------------------------------------------------------------------ reading

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
    /// @notice The feed, its group or the oracle is halted: its answers are not to be used.
    error FeedHalted(bytes32 id);
    /// @notice A candidate far from the standing answer waits to be confirmed.
    error FeedPending(bytes32 id);
    /// @notice The feed has no answer in this round, or the ring has passed it.
    error NoAnswer(bytes32 id, uint64 round);
    /// @notice The reporters disagreed by more than the caller allows.
    error SpreadTooWide(bytes32 id, uint256 spreadBps, uint256 maxSpreadBps);
    /// @notice Fewer reporters stand behind the answer than the caller wants.
    error TooFewContributors(bytes32 id, uint256 contributors, uint256 minContributors);
    /// @notice The feeds were not all written or attested in one group's last round.
    error NotOneRound(bytes32 id);
    /// @notice The history kept on chain does not reach so far back.
    error HistoryTooShort(bytes32 id, uint256 time);
    /// @notice A window must be positive, end now, and last at most 194 days.
    error BadWindow(uint256 window);
    /// @notice No round is kept under this number: the ring of evidence has passed it, or it never was.
    error UnknownRound(bytes32 group, uint64 round);
    /// @notice These are not the roots of that round, in the order of its reports.
    error WrongRoots(bytes32 group, uint64 round);

    // ------------------------------------------------------------------------------------------------ rounds

    /// @notice The group is halted: paused, or left with too few signers.
    error OraclePaused();
    /// @notice The payload is cut short, or goes on after its end, or names a set that there is none of.
    error BadPayload(uint256 spot);
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
    /// @notice A report names a signer that the set does not have.
    error NoSuchSigner(uint256 report, uint256 index);
    /// @notice A report was not signed by the signer it names: another key, or another digest.
    error UnknownSigner(uint256 report, address signer);
    /// @notice The signature's s is in the upper half: whoever saw one signature could make the other.
    error MalleableSignature(uint256 report);
    /// @notice Reports must come in strictly ascending order of their signers, so that none counts twice.
    error SignersNotAscending(uint256 report, uint256 previous, uint256 index);
    /// @notice A report has unchanged bits beyond the group's feeds, or is of no known shape.
    error BadReport(uint256 report);
    /// @notice The hint for a feed names a report that is not there.
    error NoSuchReport(uint256 feed, uint256 report);
    /// @notice The hint for a feed names a report without an observation for it.
    error MedianMissing(uint256 feed, uint256 report);
    /// @notice The hint for a feed names a report whose observation is not the lower median.
    error NotTheMedian(uint256 feed, uint256 report);
    /// @notice A feed with enough contributors may not be left alone.
    error FeedLeftOut(uint256 feed, uint256 contributors);
    /// @notice No feed has enough contributors: the round would change nothing.
    error NothingAccepted();

    // ------------------------------------------------------------------------------------------------ governance

    /// @notice The caller has not the role that this needs.
    error NotAllowed(address caller);
    /// @notice Only the guardian or the owner may pause or halt.
    error NotGuardian(address caller);
    /// @notice An oracle without an owner could never be unpaused.
    error OwnershipIsKept();
    /// @notice A configuration is refused. `reason` is a word of the rule that it breaks.
    error BadGroup(bytes32 group, string reason);
    /// @notice A feed's configuration is refused. `reason` is a word of the rule that it breaks.
    error BadFeed(bytes32 id, string reason);
    /// @notice A rotation is under way: conclude or cancel it first.
    error RotationUnderWay(bytes32 group);
    /// @notice There is no rotation, or it is not due yet.
    error NoRotationDue(bytes32 group);
    /// @notice No candidate waits for this feed.
    error NoCandidate(bytes32 id);
}
