// SPDX-License-Identifier: Apache-2.0
pragma solidity >=0.8.0;

/// @title The interface that Chainlink's consumers read feeds through
interface AggregatorV3Interface {
    /// @notice The scale of the answers.
    function decimals() external view returns (uint8);

    /// @notice What is priced in what, as "BTC / USD".
    function description() external view returns (string memory);

    /// @notice The version of what stands behind this interface.
    function version() external view returns (uint256);

    /// @notice The answer of one round. Times in seconds.
    /// @param roundId the round
    /// @return roundId_ the same
    /// @return answer scaled by `decimals`
    /// @return startedAt seconds
    /// @return updatedAt seconds
    /// @return answeredInRound the same round
    function getRoundData(uint80 roundId)
        external
        view
        returns (uint80 roundId_, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);

    /// @notice The standing answer. Times in seconds.
    /// @return roundId in which it was accepted
    /// @return answer scaled by `decimals`
    /// @return startedAt when it was accepted, in seconds
    /// @return updatedAt when it was last accepted or attested, in seconds
    /// @return answeredInRound the round
    function latestRoundData()
        external
        view
        returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound);
}
