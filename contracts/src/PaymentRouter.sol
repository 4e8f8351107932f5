// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {DepositAddress} from "./DepositAddress.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {IPaymentRouter} from "./interfaces/IPaymentRouter.sol";
import {Money} from "./Money.sol";
import {Names} from "./Names.sol";

/// @title PaymentRouter
/// @notice See IPaymentRouter.
contract PaymentRouter is IPaymentRouter, ReentrancyGuard {
    using SafeERC20 for IERC20;

    uint256 internal constant WHOLE = 10_000;
    bytes32 internal constant QUOTE = keccak256(
        "Quote(bytes32 invoice,bytes32 purpose,address merchant,address token,uint128 amount,uint16 shareBps,uint64 validUntil)"
    );
    bytes32 internal constant TERMS =
        keccak256("Terms(bytes32 invoice,bytes32 purpose,address merchant,uint16 shareBps)");

    ICouncil public immutable council;
    address public immutable treasury;
    address public immutable implementation;

    mapping(bytes32 quote => bool) public isQuoteUsed;
    mapping(address merchant => mapping(address token => uint256)) public credit;

    constructor(ICouncil council_, address treasury_) {
        council = council_;
        treasury = treasury_;
        implementation = address(new DepositAddress());
    }

    /// @notice Only what a deposit address sends while it is flushed: other coin would belong to nobody.
    receive() external payable {
        if (!_reentrancyGuardEntered()) revert CoinNotExpected(msg.sender);
    }

    /// @inheritdoc IPaymentRouter
    function pay(Quote calldata quote, uint8 v, bytes32 r, bytes32 s) external nonReentrant {
        if (quote.token == Money.COIN) revert TokenIsCoin(quote.token);
        uint256 city = _take(quote, v, r, s);
        uint256 net = quote.amount - city;
        IERC20 token = IERC20(quote.token);
        if (city != 0) _collect(token, treasury, city);
        if (net == 0) return;
        uint256 before = token.balanceOf(quote.merchant);
        if (token.trySafeTransferFrom(msg.sender, quote.merchant, net)) {
            _checkReceived(token, quote.merchant, before, net);
        } else {
            // A merchant on a token's denylist must not keep a payer from paying.
            _collect(token, address(this), net);
            _credit(quote.merchant, quote.token, net);
        }
    }

    /// @inheritdoc IPaymentRouter
    function payNative(Quote calldata quote, uint8 v, bytes32 r, bytes32 s) external payable nonReentrant {
        if (quote.token != Money.COIN) revert TokenNotCoin(quote.token);
        if (msg.value != quote.amount) revert WrongValue(quote.amount, msg.value);
        uint256 city = _take(quote, v, r, s);
        uint256 net = quote.amount - city;
        if (city != 0 && !Money.trySend(Money.COIN, treasury, city)) revert NotReceived(treasury, Money.COIN);
        if (net != 0 && !Money.trySend(Money.COIN, quote.merchant, net)) _credit(quote.merchant, Money.COIN, net);
    }

    /// @inheritdoc IPaymentRouter
    function flush(Terms[] calldata terms, address token) external nonReentrant {
        _checkDirectSettlement();
        for (uint256 i = 0; i < terms.length; ++i) {
            _flush(terms[i], token);
        }
    }

    /// @inheritdoc IPaymentRouter
    function pull(address merchant, address token) external nonReentrant {
        uint256 amount = credit[merchant][token];
        if (amount == 0) revert NothingCredited(merchant, token);
        credit[merchant][token] = 0;
        emit Pulled(merchant, token, amount);
        if (!Money.trySend(token, merchant, amount)) revert NotReceived(merchant, token);
    }

    /// @inheritdoc IPaymentRouter
    function depositAddress(Terms calldata terms) public view returns (address) {
        _checkShare(terms.shareBps, terms.merchant);
        return Clones.predictDeterministicAddress(implementation, termsHash(terms));
    }

    /// @inheritdoc IPaymentRouter
    function termsHash(Terms calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(TERMS, terms));
    }

    /// @inheritdoc IPaymentRouter
    function quoteHash(Quote calldata quote) public pure returns (bytes32) {
        return keccak256(abi.encode(QUOTE, quote));
    }

    /// @dev Check a quote, use it up, say so, and return the city's part.
    function _take(Quote calldata quote, uint8 v, bytes32 r, bytes32 s) private returns (uint256 city) {
        _checkDirectSettlement();
        _checkAsset(quote.token);
        if (block.timestamp > quote.validUntil) revert QuoteExpired(quote.validUntil, block.timestamp);
        if (quote.amount == 0) revert AmountIsZero(quote.invoice);
        _checkShare(quote.shareBps, quote.merchant);
        uint256 least = council.minShare(quote.purpose);
        if (quote.shareBps < least) revert ShareTooSmall(least, quote.shareBps);
        bytes32 hash = quoteHash(quote);
        if (isQuoteUsed[hash]) revert QuoteUsed(hash);
        address signer = council.recover(hash, v, r, s);
        if (!council.seated(Names.GATEWAY, signer)) revert NotSeated(Names.GATEWAY, signer);
        isQuoteUsed[hash] = true;
        city = _cityPart(quote.amount, quote.shareBps);
        emit Paid(quote.invoice, hash, quote.token, msg.sender, quote.amount, city);
    }

    function _flush(Terms calldata terms, address token) private {
        address payable deposit = payable(depositAddress(terms));
        uint256 amount = Money.balanceOf(token, deposit);
        if (amount == 0) return;
        if (deposit.code.length == 0) Clones.cloneDeterministic(implementation, termsHash(terms));
        // The act may have raised the share since the address was given out.
        uint256 city = _cityPart(amount, Math.max(terms.shareBps, council.minShare(terms.purpose)));
        uint256 received = 0;
        if (city != 0) received = _move(DepositAddress(deposit), token, treasury, city);
        if (amount != city) _moveToMerchant(DepositAddress(deposit), token, terms.merchant, amount - city);
        // What arrived and not what was sent: a token may take a fee, and this event is the evidence.
        emit Flushed(terms.invoice, deposit, token, amount, received);
    }

    /// @return received By how much the receiver's balance grew.
    function _move(DepositAddress deposit, address token, address to, uint256 amount)
        private
        returns (uint256 received)
    {
        uint256 before = Money.balanceOf(token, to);
        if (!deposit.send(token, to, amount)) revert NotReceived(to, token);
        return Money.balanceOf(token, to) - before;
    }

    function _moveToMerchant(DepositAddress deposit, address token, address merchant, uint256 amount) private {
        if (deposit.send(token, merchant, amount)) return;
        _credit(merchant, token, _move(deposit, token, address(this), amount));
    }

    function _credit(address merchant, address token, uint256 amount) private {
        credit[merchant][token] += amount;
        emit Credited(merchant, token, amount);
    }

    function _collect(IERC20 token, address to, uint256 amount) private {
        uint256 before = token.balanceOf(to);
        token.safeTransferFrom(msg.sender, to, amount);
        _checkReceived(token, to, before, amount);
    }

    function _checkReceived(IERC20 token, address to, uint256 before, uint256 amount) private view {
        uint256 balance = token.balanceOf(to);
        if (balance != before + amount) revert AmountDiffers(to, before + amount, balance);
    }

    function _checkDirectSettlement() private view {
        uint256 found = council.parameter(Names.DIRECT_SETTLEMENT);
        if (found != 1) revert DirectSettlementOff(1, found);
    }

    function _checkAsset(address token) private view {
        bytes32 name = council.assetOf(token);
        if (name == 0) revert AssetNotAllowed(token);
        ICouncil.Asset memory asset = council.asset(name);
        if (block.timestamp < asset.validFrom || block.timestamp >= asset.validTo) {
            revert AssetNotInForce(asset.validFrom, asset.validTo, block.timestamp);
        }
    }

    function _checkShare(uint256 shareBps, address merchant) private view {
        if (shareBps > WHOLE) revert ShareTooLarge(WHOLE, shareBps);
        // Nobody may be left out of a split, and what came here by name would belong to nobody.
        bool nobody = merchant == address(0) && shareBps != WHOLE;
        if (nobody || merchant == address(this)) revert MerchantNotAllowed(merchant);
    }

    /// @dev Rounded up: what does not divide is the city's.
    function _cityPart(uint256 amount, uint256 shareBps) private pure returns (uint256) {
        return Math.mulDiv(amount, shareBps, WHOLE, Math.Rounding.Ceil);
    }
}
