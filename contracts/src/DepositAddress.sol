// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Money} from "./Money.sol";

/// @title DepositAddress
/// @notice What stands at a per-invoice address: it holds what an exchange sent until the router splits it.
/// @dev Each address is a minimal clone whose place is decided by its terms, so the router alone knows what may be done
/// with its money, and the router only splits. Assumes that its maker is the PaymentRouter.
contract DepositAddress {
    address public immutable router;

    error NotTheRouter(address router, address sender);

    constructor() {
        router = msg.sender;
    }

    receive() external payable {}

    /// @notice Send, and say whether it went.
    function send(address token, address to, uint256 amount) external returns (bool) {
        if (msg.sender != router) revert NotTheRouter(router, msg.sender);
        return Money.trySend(token, to, amount);
    }
}
