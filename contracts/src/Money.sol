// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";

/// @title Money
/// @notice The chain's coin and ERC-20 tokens alike. The coin has an address that nobody holds for its token; not zero,
/// which in an Asset record means that there is no token (N9).
library Money {
    address internal constant COIN = 0xEeeeeEeeeEeEeeEeEeEeeEEEeeeeEeeeeeeeEEeE;

    /// @notice What a holder has.
    function balanceOf(address token, address holder) internal view returns (uint256) {
        return token == COIN ? holder.balance : IERC20(token).balanceOf(holder);
    }

    /// @notice Send, and say whether it went; whatever the receiver answers is not read.
    function trySend(address token, address to, uint256 amount) internal returns (bool) {
        if (token == COIN) return LowLevelCall.callNoReturn(to, amount, "");
        return SafeERC20.trySafeTransfer(IERC20(token), to, amount);
    }
}
