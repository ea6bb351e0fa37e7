// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {FairmarkTypes} from "./FairmarkTypes.sol";
import {IFairmarkOracle} from "./IFairmarkOracle.sol";

/// @title One Fairmark feed as ERC-7726 asks: how much of one asset so much of another is worth
/// @notice Serves one pair of assets, in both directions, rounding down. An answer older than `maxAge` reverts `TooOld`.
contract FairmarkQuoteAdapter {
    /// @notice The adapter does not serve this pair.
    error OracleUnsupportedPair(address base, address quote);
    /// @notice A token's decimals are absurd.
    error BadDecimals();

    /// @notice Where the prices come from.
    IFairmarkOracle public immutable oracle;
    /// @notice The feed that prices one `base` in `quote`.
    bytes32 public immutable feedId;
    /// @notice The asset that is priced.
    address public immutable base;
    /// @notice The asset that it is priced in. What has no address has one by ERC-7726: ETH, BTC, and currencies by their
    /// ISO 4217 number.
    address public immutable quote;
    /// @notice The oldest answer that is served, in seconds.
    uint256 public immutable maxAge;
    uint256 private immutable _baseUnit;
    uint256 private immutable _quoteUnit;

    /// @notice A feed of an oracle and the pair of assets that it prices, for good.
    /// @param oracle_ the oracle
    /// @param feedId_ prices one whole `base_` in whole `quote_`
    /// @param base_ priced asset
    /// @param baseDecimals its decimals
    /// @param quote_ asset of the price
    /// @param quoteDecimals its decimals
    /// @param maxAge_ seconds
    constructor(
        IFairmarkOracle oracle_,
        bytes32 feedId_,
        address base_,
        uint8 baseDecimals,
        address quote_,
        uint8 quoteDecimals,
        uint256 maxAge_
    ) {
        (, FairmarkTypes.FeedConfig memory config,) = oracle_.feedInfo(feedId_);
        if (base_ == quote_) revert OracleUnsupportedPair(base_, quote_);
        if (baseDecimals > 36 || quoteDecimals > 36 || config.decimals > 36) revert BadDecimals();
        (oracle, feedId, base, quote, maxAge) = (oracle_, feedId_, base_, quote_, maxAge_);
        // price = whole quotes times 10^decimals for one whole base
        _baseUnit = 10 ** (uint256(baseDecimals) + config.decimals);
        _quoteUnit = 10 ** uint256(quoteDecimals);
    }

    /// @notice ERC-7726: how much `quote_` an amount of `base_` is worth, rounded down.
    /// @param baseAmount in the smallest units of `base_`
    /// @param base_ one of the two assets
    /// @param quote_ the other
    /// @return quoteAmount in the smallest units of `quote_`
    function getQuote(uint256 baseAmount, address base_, address quote_) external view returns (uint256 quoteAmount) {
        bool forward = base_ == base && quote_ == quote;
        if (!forward && !(base_ == quote && quote_ == base)) revert OracleUnsupportedPair(base_, quote_);
        (uint256 price,) = oracle.getPriceNoOlderThan(feedId, maxAge);
        // only a result beyond 256 bits reverts, as the standard has it; prices have 64 bits, units of quote 120
        if (forward) return Math.mulDiv(baseAmount, price * _quoteUnit, _baseUnit);
        return Math.mulDiv(baseAmount, _baseUnit, price * _quoteUnit);
    }
}
