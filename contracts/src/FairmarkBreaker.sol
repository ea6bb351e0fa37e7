// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {FairmarkJob} from "./FairmarkJob.sol";

/// @title The breaker: a median beyond a feed's limits waits until a later one confirms it
abstract contract FairmarkBreaker is FairmarkJob {
    /// @dev Whether `word` lies beyond the limit around feed i's standing answer.
    function _strays(Job memory job, uint256 i, uint256 word, uint256 standing, uint256 params)
        internal
        view
        returns (bool)
    {
        if ((params >> 48) & 0xffff == 0 || standing == 0) return false;
        uint256 fresh = _momentOf(standing);
        if ((job.wasAttested >> i) & 1 != 0) {
            fresh = _lastMoment(job.header);
        } else {
            uint256 kept = _sload(ATTESTED + (job.number << 8) + i);
            if (kept & 0xffffffff == _roundOf(standing) && kept >> 40 > fresh) fresh = kept >> 40;
        }
        return _beyond(word, standing, fresh, params);
    }

    /// @dev Whether `word` lies further from `anchor`, as it stood at `fresh`, than the feed's limit:
    /// limit^2 = base^2 * min(max(1, elapsed / heartbeat), 16).
    function _beyond(uint256 word, uint256 anchor, uint256 fresh, uint256 params) private pure returns (bool) {
        unchecked {
            uint256 base = (params >> 48) & 0xffff;
            uint256 from = _value(anchor);
            if (base == 0 || from == 0) return false;
            uint256 to = _value(word);
            uint256 away = (to > from ? to - from : from - to) * 10_000;
            uint256 allowed = base * from;
            if (away <= allowed) return false;
            uint256 heartbeat = (params & 0xffffffff) * 1000;
            uint256 elapsed = _momentOf(word) - fresh;
            if (elapsed <= heartbeat) return true;
            if (elapsed > heartbeat << 4) elapsed = heartbeat << 4;
            // away < 2^78, allowed < 2^80, heartbeat * 16 < 2^40
            return away * away * heartbeat > allowed * allowed * elapsed;
        }
    }

    /// @dev `word` is beyond a limit. True where it confirms the waiting candidate; else it waits itself, unless the
    /// candidate is near it and only too young.
    function _confirmed(Job memory job, uint256 i, uint256 word, uint256 params) internal returns (bool) {
        unchecked {
            uint256 slot = CANDIDATES + (job.number << 8) + i;
            if ((job.pending >> i) & 1 != 0) {
                uint256 candidate = _sload(slot);
                if (!_beyond(word, candidate, _momentOf(candidate), params)) {
                    if (_momentOf(word) - _momentOf(candidate) < CONFIRM_MS) return false;
                    job.pending &= ~(1 << i);
                    return true;
                }
            }
            _sstore(slot, word);
            job.pending |= 1 << i;
            return false;
        }
    }
}
