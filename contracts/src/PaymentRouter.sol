// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

import {DepositAddress} from "./DepositAddress.sol";
import {Domain} from "./Domain.sol";
import {ICouncil} from "./interfaces/ICouncil.sol";
import {IERC3009, IPermit2} from "./interfaces/IPayments.sol";
import {IPaymentRouter} from "./interfaces/IPaymentRouter.sol";
import {Money} from "./Money.sol";
import {Names} from "./Names.sol";

/// @title PaymentRouter
/// @notice See IPaymentRouter.
contract PaymentRouter is IPaymentRouter, Domain, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @dev What the Council answered about a purpose, until when no act can change it.
    struct Floor {
        uint64 until;
        uint16 leastShare;
    }

    /// @dev One word for 128 quotes of one gateway, token and purpose: which of them are used (128 bits), until when no act
    /// can change what the Council answered when it was asked whether they may be paid (64 bits), and that answer, the
    /// least share (16 bits). Asking again sooner would give the same.
    struct Page {
        uint256 word;
    }

    uint256 internal constant WHOLE = 10_000;
    bytes32 internal constant QUOTE = keccak256(
        "Quote(bytes32 invoice,bytes32 purpose,address merchant,address token,uint256 amount,uint256 shareBps,uint256 validUntil,uint256 nonce)"
    );
    bytes32 internal constant TERMS =
        keccak256("Terms(bytes32 invoice,bytes32 purpose,address merchant,uint16 shareBps)");
    string internal constant WITNESS =
        "Quote witness)Quote(bytes32 invoice,bytes32 purpose,address merchant,address token,uint256 amount,uint256 shareBps,uint256 validUntil,uint256 nonce)TokenPermissions(address token,uint256 amount)";
    // The same on every chain that has it.
    IPermit2 internal constant PERMIT2 = IPermit2(0x000000000022D473030F116dDEE9F6B43aC78BA3);

    address public immutable treasury;
    address public immutable implementation;

    mapping(address merchant => mapping(address token => uint256)) public credit;

    mapping(bytes32 gatewayTokenPurposeNumber => Page) private _pages;
    mapping(bytes32 purpose => Floor) private _floors;

    constructor(ICouncil council_, address treasury_) Domain(council_, council_.domainSeparator()) {
        treasury = treasury_;
        implementation = address(new DepositAddress());
    }

    /// @notice Only what a deposit address sends while it is flushed: other coin would belong to nobody.
    receive() external payable {
        if (!_reentrancyGuardEntered()) revert CoinNotExpected(msg.sender);
    }

    /// @inheritdoc IPaymentRouter
    /// @dev No lock. The quote is used up before anything moves. Whoever is called back and pays or flushes in between moves
    /// the balance that is measured here, to the unit, and so is refused.
    function pay(Quote calldata quote, bytes32 r, bytes32 vs) external {
        _pay(quote, r, vs);
    }

    /// @inheritdoc IPaymentRouter
    function payWithPermit(Quote calldata quote, bytes32 r, bytes32 vs, Permit calldata permit) external nonReentrant {
        // Whoever saw this transaction first may have brought the permit already: then the allowance is there, and if it
        // is not, the transfer says so (FIELD_FAILURES 61).
        try IERC20Permit(quote.token).permit(
            msg.sender, address(this), permit.value, permit.deadline, permit.v, permit.r, permit.s
        ) {} catch {}
        _pay(quote, r, vs);
    }

    /// @inheritdoc IPaymentRouter
    function payWithAuthorization(Quote calldata quote, bytes32 r, bytes32 vs, Authorization calldata payer)
        external
        nonReentrant
    {
        (bytes32 hash, uint256 city, uint256 net, address token, address merchant) = _take(quote, r, vs);
        _receive(quote, hash, payer);
        if (city != 0) _forward(IERC20(token), treasury, city);
        if (net == 0) return;
        uint256 before = IERC20(token).balanceOf(merchant);
        if (IERC20(token).trySafeTransfer(merchant, net)) _checkReceived(IERC20(token), merchant, before, net);
        else _credit(merchant, token, net);
    }

    /// @inheritdoc IPaymentRouter
    function payWithPermit2(Quote calldata quote, bytes32 r, bytes32 vs, Permit2 calldata payer) external nonReentrant {
        (bytes32 hash, uint256 city,, address token,) = _take(quote, r, vs);
        uint256 before = IERC20(token).balanceOf(treasury);
        _receiveBatch(quote, hash, city, payer);
        _checkReceived(IERC20(token), treasury, before, city);
    }

    /// @inheritdoc IPaymentRouter
    /// @dev No lock: the quote is used up before the coin moves, and nothing is measured.
    function payNative(Quote calldata quote, bytes32 r, bytes32 vs) external payable {
        (, uint256 city, uint256 net, address token, address merchant) = _take(quote, r, vs);
        if (token != Money.COIN) revert TokenNotCoin(token);
        if (msg.value != quote.amount) revert WrongValue(quote.amount, msg.value);
        // The treasury takes coin whatever comes with it.
        (bool sent,) = treasury.call{value: city}("");
        if (!sent) revert NotReceived(treasury, Money.COIN);
        if (net != 0 && !LowLevelCall.callNoReturn(merchant, net, "")) _credit(merchant, Money.COIN, net);
    }

    /// @inheritdoc IPaymentRouter
    function flush(Terms[] calldata terms, address token) external nonReentrant {
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
    function isQuoteUsed(address gateway, Quote calldata quote) external view returns (bool) {
        return _pages[_pageKey(gateway, quote.token, quote.purpose, quote.nonce)].word & _bit(quote.nonce) != 0;
    }

    /// @inheritdoc IPaymentRouter
    function depositAddress(Terms calldata terms) external view returns (address) {
        _checkShare(terms.shareBps, terms.merchant);
        return Clones.predictDeterministicAddress(implementation, termsHash(terms));
    }

    /// @inheritdoc IPaymentRouter
    function termsHash(Terms calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(TERMS, terms));
    }

    /// @inheritdoc IPaymentRouter
    function quoteHash(Quote calldata) public pure returns (bytes32) {
        // The quote's eight words stand first in whatever calls this.
        return keccak256(abi.encodePacked(QUOTE, msg.data[4:4 + 8 * 32]));
    }

    /// @dev Check a quote, use it up, say so, and return its hash, both parts, and whom they concern: each member that is
    /// read from the call is read once.
    function _take(Quote calldata quote, bytes32 r, bytes32 vs)
        private
        returns (bytes32 hash, uint256 city, uint256 net, address token, address merchant)
    {
        if (block.timestamp > quote.validUntil) revert QuoteExpired(quote.validUntil, block.timestamp);
        net = quote.amount;
        if (net == 0) revert AmountIsZero(quote.invoice);
        uint256 share = quote.shareBps;
        merchant = quote.merchant;
        _checkShare(share, merchant);
        hash = quoteHash(quote);
        token = quote.token;
        _useUp(_signer(hash, r, vs), token, quote.purpose, quote.nonce, share, hash);
        city = _cityPart(net, share);
        emit Paid(quote.invoice, token, net, city);
        unchecked {
            // The share is at most the whole.
            net -= city;
        }
    }

    function _useUp(address gateway, address token, bytes32 purpose, uint256 nonce, uint256 share, bytes32 hash)
        private
    {
        Page storage place = _pages[_pageKey(gateway, token, purpose, nonce)];
        uint256 page = place.word;
        if (block.timestamp >= uint64(page >> 128)) page = uint128(page) | _ask(gateway, token, purpose);
        if (share < page >> 192) revert ShareTooSmall(page >> 192, share);
        uint256 bit = _bit(nonce);
        if (page & bit != 0) revert QuoteUsed(hash);
        place.word = page | bit;
    }

    function _pay(Quote calldata quote, bytes32 r, bytes32 vs) private {
        (, uint256 city, uint256 net, address token, address merchant) = _take(quote, r, vs);
        if (token == Money.COIN) revert TokenIsCoin(token);
        // One of the two says whether the token takes a fee or lies: the city if it gets anything.
        address measured = city == 0 ? merchant : treasury;
        uint256 before = IERC20(token).balanceOf(measured);
        if (city != 0) IERC20(token).safeTransferFrom(msg.sender, treasury, city);
        if (net != 0 && !IERC20(token).trySafeTransferFrom(msg.sender, merchant, net)) {
            // A merchant on a token's denylist must not keep a payer from paying.
            _collect(IERC20(token), address(this), net);
            _credit(merchant, token, net);
            if (city == 0) return;
        }
        _checkReceived(IERC20(token), measured, before, city == 0 ? net : city);
    }

    /// @dev Both parts go straight from the payer to whom they belong; the rest is measured here.
    function _receiveBatch(Quote calldata quote, bytes32 hash, uint256 city, Permit2 calldata payer) private {
        uint256 net = quote.amount - city;
        (IPermit2.PermitBatch memory permit, IPermit2.TransferDetails[] memory details) = _batch(quote, city, payer.nonce);
        IERC20 token = IERC20(quote.token);
        uint256 before = net == 0 ? 0 : token.balanceOf(details[1].to);
        try PERMIT2.permitWitnessTransferFrom(permit, details, payer.from, hash, WITNESS, payer.signature) {}
        catch {
            // If it was the merchant who could not receive, the rest is kept for it; if not, this says why.
            details[1].to = address(this);
            before = token.balanceOf(address(this));
            PERMIT2.permitWitnessTransferFrom(permit, details, payer.from, hash, WITNESS, payer.signature);
            _credit(quote.merchant, quote.token, net);
        }
        if (net != 0) _checkReceived(token, details[1].to, before, net);
    }

    function _batch(Quote calldata quote, uint256 city, uint256 nonce)
        private
        view
        returns (IPermit2.PermitBatch memory permit, IPermit2.TransferDetails[] memory details)
    {
        IPermit2.TokenPermissions[] memory permitted = new IPermit2.TokenPermissions[](2);
        permitted[0] = IPermit2.TokenPermissions(quote.token, city);
        permitted[1] = IPermit2.TokenPermissions(quote.token, quote.amount - city);
        permit = IPermit2.PermitBatch(permitted, nonce, quote.validUntil);
        details = new IPermit2.TransferDetails[](2);
        details[0] = IPermit2.TransferDetails(treasury, city);
        details[1] = IPermit2.TransferDetails(quote.merchant, quote.amount - city);
    }

    function _receive(Quote calldata quote, bytes32 hash, Authorization calldata payer) private {
        IERC20 token = IERC20(quote.token);
        uint256 before = token.balanceOf(address(this));
        // Its nonce is the quote, so it pays this and nothing else; only the receiver, which is here, may bring it.
        IERC3009(address(token)).receiveWithAuthorization(
            payer.from,
            address(this),
            quote.amount,
            0,
            uint256(quote.validUntil) + 1,
            hash,
            payer.v,
            payer.r,
            payer.s
        );
        // That a token does not refuse proves nothing (FIELD_FAILURES 21).
        _checkReceived(token, address(this), before, quote.amount);
    }

    function _flush(Terms calldata terms, address token) private {
        _checkShare(terms.shareBps, terms.merchant);
        bytes32 salt = termsHash(terms);
        address payable deposit = payable(Clones.predictDeterministicAddress(implementation, salt));
        uint256 amount = Money.balanceOf(token, deposit);
        if (amount == 0) return;
        if (deposit.code.length == 0) Clones.cloneDeterministic(implementation, salt);
        // The act may have raised the share since the address was given out.
        uint256 city = _cityPart(amount, Math.max(terms.shareBps, _floor(terms.purpose)));
        uint256 received = 0;
        if (city != 0) received = _move(DepositAddress(deposit), token, treasury, city);
        if (amount != city) _moveToMerchant(DepositAddress(deposit), token, terms.merchant, amount - city);
        // What arrived and not what was sent: a token may take a fee, and this event is the evidence.
        emit Flushed(terms.invoice, deposit, token, amount, received);
    }

    function _floor(bytes32 purpose) private returns (uint256) {
        Floor memory floor = _floors[purpose];
        if (block.timestamp >= floor.until) {
            floor.until = _directSettlementUntil();
            uint64 until;
            (floor.leastShare, until) = council.minShareUntil(purpose);
            if (until < floor.until) floor.until = until;
            _floors[purpose] = floor;
        }
        return floor.leastShare;
    }

    /// @return received By how much the receiver's balance grew: less than the amount if the token takes a fee, and never
    /// more, so that nothing that came in between counts twice (FIELD_FAILURES 59).
    function _move(DepositAddress deposit, address token, address to, uint256 amount)
        private
        returns (uint256 received)
    {
        uint256 before = Money.balanceOf(token, to);
        if (!deposit.send(token, to, amount)) revert NotReceived(to, token);
        received = Money.balanceOf(token, to) - before;
        if (received > amount) revert AmountDiffers(to, before + amount, before + received);
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

    function _forward(IERC20 token, address to, uint256 amount) private {
        uint256 before = token.balanceOf(to);
        token.safeTransfer(to, amount);
        _checkReceived(token, to, before, amount);
    }

    function _checkReceived(IERC20 token, address to, uint256 before, uint256 amount) private view {
        uint256 balance = token.balanceOf(to);
        if (balance != before + amount) revert AmountDiffers(to, before + amount, balance);
    }

    /// @dev Ask the Council whether this gateway may sign for this token and purpose.
    /// @return answer Its part of a page: the least share, then the first second at which it may be another.
    function _ask(address gateway, address token, bytes32 purpose)
        private
        view
        returns (uint256 answer)
    {
        uint64 until = _directSettlementUntil();
        uint64 end = _assetUntil(token);
        if (end < until) until = end;
        end = council.seatedUntil(Names.GATEWAY, gateway);
        if (end == 0) revert NotSeated(Names.GATEWAY, gateway);
        if (end < until) until = end;
        uint16 share;
        (share, end) = council.minShareUntil(purpose);
        if (end < until) until = end;
        return (uint256(share) << 192) | (uint256(until) << 128);
    }

    function _directSettlementUntil() private view returns (uint64 until) {
        uint256 found;
        (found, until) = council.parameterUntil(Names.DIRECT_SETTLEMENT);
        if (found != 1) revert DirectSettlementOff(1, found);
    }

    function _assetUntil(address token) private view returns (uint64) {
        bytes32 name = council.assetOf(token);
        if (name == 0) revert AssetNotAllowed(token);
        ICouncil.Asset memory asset = council.asset(name);
        if (block.timestamp < asset.validFrom || block.timestamp >= asset.validTo) {
            revert AssetNotInForce(asset.validFrom, asset.validTo, block.timestamp);
        }
        return asset.validTo;
    }

    function _checkShare(uint256 shareBps, address merchant) private view {
        if (shareBps > WHOLE) revert ShareTooLarge(WHOLE, shareBps);
        // Nobody may be left out of a split, and what came here by name would belong to nobody.
        bool nobody = merchant == address(0) && shareBps != WHOLE;
        if (nobody || merchant == address(this)) revert MerchantNotAllowed(merchant);
    }

    function _pageKey(address gateway, address token, bytes32 purpose, uint256 nonce) private pure returns (bytes32) {
        return keccak256(abi.encode(gateway, token, purpose, nonce >> 7));
    }

    function _bit(uint256 nonce) private pure returns (uint256) {
        return 1 << (nonce & 127);
    }

    /// @dev Rounded up: what does not divide is the city's.
    function _cityPart(uint256 amount, uint256 shareBps) private pure returns (uint256) {
        // No token has so many units; what is less does not overflow.
        if (amount >> 128 != 0) revert AmountTooLarge(type(uint128).max, amount);
        unchecked {
            return (amount * shareBps + (WHOLE - 1)) / WHOLE;
        }
    }
}
